"""The channel layers on the shared profile, between two tenants and a neighbour who knows the names."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull

from tenantkv import Keyring, Namespace
from tenantkv.contrib import channels as module
from tenantkv.contrib.channels import TenantChannelLayer, TenantPubSubChannelLayer
from tests.sealers import flip

LAYERS = (TenantChannelLayer, TenantPubSubChannelLayer)


@pytest.fixture
def namespace():
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.fixture
def make(shared_server, namespace):
    layers = []

    def make(cls=TenantChannelLayer, *, namespace=namespace, **options):
        layers.append(cls(shared_server.url, namespace=namespace, **options))
        return layers[-1]

    yield make
    for layer in layers:
        async_to_sync(layer.close_pools)()


@pytest.fixture
def raw(shared_server):
    client = redis.Redis(unix_socket_path=shared_server.socket_path, protocol=2)
    yield client
    client.close()


async def soon(awaitable, seconds=10.0):
    return await asyncio.wait_for(awaitable, seconds)


async def listened_to(raw, subscribers):
    """Wait until the server knows a channel with so many subscribers."""
    deadline = time.monotonic() + 30
    while max((count for _, count in raw.pubsub_numsub(*raw.pubsub_channels())), default=0) < subscribers:
        assert time.monotonic() < deadline, "waited in vain for subscribers"
        await asyncio.sleep(0.02)


async def nothing(layer, channel, seconds=0.5):
    """Fail if anything arrives."""
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(layer.receive(channel), seconds)


async def closed(*layers):
    for layer in layers:
        await layer.close_pools()


MESSAGE = {"type": "chat.message", "text": "hé", "body": b"\x00\xff", "list": [1, {"a": None}]}


@pytest.mark.parametrize("cls", LAYERS)
async def test_messages_reach_their_channel_only(make, cls):
    layer = make(cls)
    one, two = await layer.new_channel(), await layer.new_channel()
    await layer.send(one, MESSAGE)
    await layer.send(two, {"type": "b"})
    assert await soon(layer.receive(two)) == {"type": "b"}
    assert await soon(layer.receive(one)) == MESSAGE
    await nothing(layer, one)
    await closed(layer)


@pytest.mark.parametrize("cls", LAYERS)
async def test_groups_of_two_processes(make, raw, cls):
    first, second = make(cls), make(cls)
    one, two, three = await first.new_channel(), await first.new_channel(), await second.new_channel()
    for layer, channel in ((first, one), (first, two), (second, three)):
        await layer.group_add("room", channel)
    if cls is TenantPubSubChannelLayer:
        await listened_to(raw, 2)
    await first.group_send("room", MESSAGE)
    assert await soon(first.receive(one)) == MESSAGE
    assert await soon(first.receive(two)) == MESSAGE
    assert await soon(second.receive(three)) == MESSAGE
    await first.group_discard("room", one)
    await second.group_send("room", {"type": "again"})
    assert await soon(second.receive(three)) == {"type": "again"}
    await nothing(first, one)
    await closed(first, second)


@pytest.mark.parametrize("cls", LAYERS)
async def test_tenants_with_the_same_names_never_meet(make, cls):
    ours, theirs = make(cls), make(cls, namespace=Namespace(Keyring.generate(os.urandom(96))))
    await ours.group_add("room", await ours.new_channel())
    channel = await theirs.new_channel()
    await theirs.group_add("room", channel)
    await ours.group_send("room", MESSAGE)
    await ours.send("thumbnails", MESSAGE)
    await nothing(theirs, channel)
    await nothing(theirs, "thumbnails")
    await closed(ours, theirs)


async def test_many_receivers_of_one_process_share_one_wait(make, shared_server):
    layer = make()
    channels = [await layer.new_channel() for _ in range(20)]
    waits = [asyncio.ensure_future(layer.receive(channel)) for channel in channels]
    await asyncio.sleep(0.3)
    for number, channel in enumerate(channels):
        await layer.send(channel, {"type": "n", "n": number})
    assert [(await soon(wait))["n"] for wait in waits] == list(range(20))
    await closed(layer)


async def test_a_consumer_that_goes_takes_no_message_along(make):
    layer = make()
    one, two = await layer.new_channel(), await layer.new_channel()
    gone = asyncio.ensure_future(layer.receive(one))
    await asyncio.sleep(0.2)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await layer.send(two, {"type": "for two"})
    assert await soon(layer.receive(two)) == {"type": "for two"}
    await closed(layer)


async def test_an_idle_receiver_waits_for_long(make):
    layer = make(socket_timeout=1.0)
    channel = await layer.new_channel()
    wait = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(module.WAIT + 1.5)
    await layer.send(channel, {"type": "late"})
    assert await soon(wait) == {"type": "late"}
    await closed(layer)


async def test_capacity_and_expiry(make):
    layer = make(capacity=3, channel_capacity={"small": 1})
    for _ in range(3):
        await layer.send("large", {"type": "a"})
    with pytest.raises(ChannelFull):
        await layer.send("large", {"type": "a"})
    await layer.send("small", {"type": "a"})
    with pytest.raises(ChannelFull):
        await layer.send("small", {"type": "a"})
    short = make(expiry=1)
    await short.send("short", {"type": "a"})
    await asyncio.sleep(1.2)
    await nothing(short, "short")
    await closed(layer, short)


async def test_flush_needs_no_keys(make, raw, shared_server, namespace):
    layer = make()
    raw.set("neighbour", "x")
    await layer.send("large", MESSAGE)
    await layer.group_add("room", await layer.new_channel())
    assert len(shared_server.dump_keys()) > 1
    await layer.flush()
    assert shared_server.dump_keys() == {b"neighbour"}
    await closed(layer)


async def test_nothing_of_a_message_is_shown(make, raw, shared_server, namespace):
    layer, fan = make(), make(TenantPubSubChannelLayer)
    listener = raw.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("*")
    listener.get_message(timeout=30)  # the acknowledgement
    await layer.send("thumbnails", {"type": "hunter2"})
    await layer.group_add("hunter2-room", await layer.new_channel())
    await fan.send("thumbnails", {"type": "hunter2"})
    shown = b"".join(shared_server.dump_keys())
    shown += b"".join(value for value, _ in shared_server.dump().values())
    pushed = [message for _ in range(5) if (message := listener.get_message(timeout=0.2))]
    assert pushed
    heard = b"".join(message["channel"] + message["data"] for message in pushed)
    for word in (b"hunter2", b"thumbnails"):
        assert word not in shown + heard
    assert namespace.keyring.prefix.encode() not in heard
    listener.close()
    await closed(layer, fan)


async def test_forged_moved_and_replayed_messages_are_dropped(make, raw, namespace):
    layer, other = make(), make()
    wire = lambda name: namespace.wire_name(layer._vault.name("list", name))  # noqa: E731
    await layer.send("thumbnails", {"type": "genuine"})
    blob = raw.lindex(wire("thumbnails"), 0)
    assert await soon(layer.receive("thumbnails")) == {"type": "genuine"}
    # Replayed: in the same process, and in one that has not seen it.
    raw.rpush(wire("thumbnails"), blob)
    await nothing(layer, "thumbnails")
    raw.rpush(wire("thumbnails"), blob)
    await nothing(other, "thumbnails")
    # Moved, forged, changed; and the next good one is delivered.
    raw.rpush(wire("pictures"), blob, b"garbage", b"", b"\x01\xc1", flip(blob))
    await layer.send("pictures", {"type": "good"})
    assert await soon(layer.receive("pictures")) == {"type": "good"}
    assert layer.dropped["forged"] == 5
    assert layer.dropped.get("replayed", 0) + other.dropped.get("replayed", 0) == 2
    await closed(layer, other)


async def test_forged_members_and_lost_groups(make, raw, namespace, monkeypatch):
    layer = make()
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    group = namespace.wire_name(layer._vault.name("group", "room"))
    raw.zadd(group, {b"thumbnails": 9e9, b"\xff\xfe": 9e9})
    await layer.group_send("room", {"type": "a"})
    assert await soon(layer.receive(channel)) == {"type": "a"}
    assert raw.exists(namespace.wire_name(layer._vault.name("list", "thumbnails"))) == 0
    raw.delete(group)
    layer._reassert_at = 0.0
    await nothing(layer, channel)
    await layer.group_send("room", {"type": "b"})
    assert await soon(layer.receive(channel)) == {"type": "b"}
    await closed(layer)


async def test_forged_and_replayed_pushes_are_dropped(make, raw, namespace):
    layer = make(TenantPubSubChannelLayer)
    listener = raw.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("*")
    listener.get_message(timeout=30)  # the acknowledgement
    channel = await layer.new_channel()
    await listened_to(raw, 1)
    await layer.send(channel, {"type": "genuine"})
    assert await soon(layer.receive(channel)) == {"type": "genuine"}
    pushed = next(filter(None, (listener.get_message(timeout=0.2) for _ in range(10))))
    for data in (b"garbage", pushed["data"], flip(pushed["data"])):
        assert raw.publish(pushed["channel"], data) == 2
    wait = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0.2)
    await layer.send(channel, {"type": "next"})
    assert await soon(wait) == {"type": "next"}
    assert layer.dropped == {"forged": 2, "replayed": 1}
    listener.close()
    await closed(layer)


def test_a_loop_for_each_call(make):
    layer = make()
    for number in range(3):
        async_to_sync(layer.send)("thumbnails", {"type": "n", "n": number})
    assert [async_to_sync(layer.receive)("thumbnails")["n"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("cls", LAYERS)
def test_a_wrong_setting_stops_the_start(cls, namespace):
    with pytest.raises((ValueError, TypeError)):
        cls("redish://localhost", namespace=namespace)
    with pytest.raises((ValueError, TypeError)):
        cls("redis://localhost/0?prefix=x", namespace=namespace)


def test_the_example(shared_server, namespace):
    environment = {**os.environ, "TENANTKV_SECRET_KEYRING": namespace.keyring.dump(compact=True)}
    example = Path(__file__).resolve().parents[2] / "examples" / "channels_chat.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example), shared_server.url],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "member 0 hears: hello\nmember 1 hears: hello\n", done.stderr


def test_loops_of_a_process_hand_messages_to_each_other(make):
    """All channels of a process share a list, and another loop may be the one that takes the message."""
    layer = make()
    first, second = (asyncio.run(layer.new_channel()) for _ in range(2))

    async def send():
        await layer.send(first, {"type": "first"})
        await layer.send(second, {"type": "second"})

    asyncio.run(send())
    # The first loop finds the second's message behind, or in front of, its own.
    assert asyncio.run(layer.receive(second)) == {"type": "second"}
    assert asyncio.run(layer.receive(first)) == {"type": "first"}

    # And while both wait.
    received = []
    threads = [
        threading.Thread(target=lambda c=channel: received.append(asyncio.run(layer.receive(c))))
        for channel in (first, second)
    ]
    for thread in threads:
        thread.start()
    asyncio.run(send())
    for thread in threads:
        thread.join(30)
    assert sorted(message["type"] for message in received) == ["first", "second"]


def test_a_channel_of_another_process_is_refused(make):
    layer = make()
    with pytest.raises(AssertionError, match="another process"):
        asyncio.run(layer.receive("not-of-this-process!channel"))
