"""Django Channels on a shared server: ``tenantkv.contrib.channels.TenantChannelLayer``.

Messages wait in lists, one for each process and one for each channel that many processes work on; groups
are sorted sets of sealed members. `channels_pubsub` has a layer without any keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections import defaultdict
from functools import cache
from importlib.resources import files
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

from tenantkv.commands.own_scripts import OwnWord
from tenantkv.contrib.channels_inbox import Inbox
from tenantkv.contrib.channels_messages import INDEX, NAMES, Vault, client_of, logger
from tenantkv.contrib.channels_pubsub import TenantPubSubChannelLayer
from tenantkv.contrib.loop_states import LoopStates
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.ops.effects import Batch
from tenantkv.ops.scripts import Call, Script
from tenantkv.transport.endings import end

__all__ = ["TenantChannelLayer", "TenantPubSubChannelLayer"]

#: Seconds for which the server is asked to wait for a message, and then is asked again.
WAIT = 4.0
#: Seconds after which a process puts its members back into their groups, which may have been evicted.
REASSERT = 30.0

_ZADD = OwnWord(b"ZADD")

_Base: Any = BaseChannelLayer


@cache
def _script() -> Script:
    body = files("tenantkv.contrib").joinpath("channels_send.lua").read_bytes()
    return Script.of("channels_send", body, repeatable=False)


class _LoopState:
    """What belongs to one event loop: a client, and its waits for lists."""

    def __init__(self, client: Any) -> None:
        self.client = client
        # For each list that is waited on: the wait that is under way.
        self.pops: dict[bytes, asyncio.Task[Any]] = {}

    async def close(self) -> None:
        await end(*self.pops.values())
        await self.client.aclose()


class TenantChannelLayer(_Base):
    """A channel layer that shares its server with strangers.

    Delivery is at most once, as Channels has it. Forged, moved, replayed and expired messages are dropped
    and counted.

    Args:
        url: as for `tenantkv.connect`; Sentinels and TLS as well.
        keyring: as for `tenantkv.connect`.
        namespace: as for `tenantkv.connect`.
        child: keep everything in this sub-tenant of the namespace.
        expiry: seconds for which a message counts.
        group_expiry: seconds for which a member stays in a group without being added anew.
        capacity: the most messages that wait in a channel.
        channel_capacity: the same for channels that match: ``{"http.request": 200, re.compile(...): 50}``.
        options: as for `tenantkv.connect`: time-outs, TLS ...
    """

    extensions = ("groups", "flush")

    def __init__(
        self,
        url: str | None = None,
        *,
        keyring: Keyring | str | os.PathLike[str] | None = None,
        namespace: Namespace | str | None = None,
        child: str | None = None,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity, channel_capacity=channel_capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.group_expiry = group_expiry

        def client() -> Any:
            return client_of(url, keyring=keyring, namespace=namespace, child=child, options=options)

        # Now, so that a wrong setting stops the program's start and not its first message.
        first = client()
        database = first.connection_pool.connection_kwargs.get("db") or 0
        self._vault = Vault(first.namespace, int(database), expiry)
        self._states: LoopStates[_LoopState] = LoopStates(lambda: _LoopState(client()))
        self._process = uuid.uuid4().hex
        self._inbox = Inbox(expiry)
        self._members: dict[tuple[str, str], float] = {}
        self._reassert_at = time.monotonic() + REASSERT

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages this process dropped, by the reason."""
        return dict(self._vault.dropped)

    # Sending

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel. One round trip.

        Raises:
            ChannelFull: as many messages wait there as its capacity.
        """
        self.require_valid_channel_name(channel)
        call = self._put(_list_of(channel), [channel], message)
        if not (await self._run([call]))[0]:
            raise ChannelFull

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to every channel of a group; full ones miss it. Two round trips."""
        self.require_valid_group_name(group)
        name = self._vault.name("group", group)
        client = self._states.here().client
        async with client.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(name, "-inf", time.time() - self.group_expiry)
            pipe.zrange(name, 0, -1)
            _, members = await pipe.execute()
        lists: defaultdict[str, list[str]] = defaultdict(list)
        for member in members:
            channel = self._vault.open_member(name, member)
            if channel is not None:
                lists[_list_of(channel)].append(channel)
        if not lists:
            return
        calls = [self._put(each, channels, message) for each, channels in lists.items()]
        full = sum(not done for done in await self._run(calls))
        if full:
            logger.info("a group's message did not reach %d of %d places, which are full", full, len(calls))

    def _put(self, list_name: str, channels: list[str], message: dict[str, Any]) -> Call:
        name = self._vault.name("list", list_name)
        blob = self._vault.seal(name, message, channels)
        words = (blob, self.get_capacity(channels[0]), int(self.expiry * 1000), name, time.time())
        return Call(_script(), (name, INDEX), words)

    async def _run(self, calls: list[Call]) -> list[Any]:
        def operation() -> Any:
            return (yield Batch(calls))

        replies: list[Any] = await self._states.here().client.run(operation())
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    # Receiving

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a channel that only this process receives from. No round trip."""
        return f"{prefix}.{self._process}!{uuid.uuid4().hex}"

    async def receive(self, channel: str) -> Any:
        """Wait for a message, and return it."""
        self.require_valid_channel_name(channel)
        state = self._states.here()
        assert "!" not in channel or channel.partition("!")[0].endswith(self._process), (
            "a channel of another process; only its own process receives from it"
        )
        list_name = _list_of(channel)
        while True:
            with self._inbox.waiting(channel) as arrived:
                message = self._inbox.take(channel)
                if message is not None:
                    return message
                await self._reassert()
                await self._wait(state, list_name, arrived)

    async def _wait(self, state: _LoopState, list_name: str, arrived: asyncio.Future[None]) -> None:
        """Wait until something came for one of the list's channels, or nothing for some seconds.

        Args:
            state: of the running loop.
            list_name: of the list.
            arrived: done when a message for the channel came by another loop.
        """
        name = self._vault.name("list", list_name)
        task = state.pops.get(name)
        if task is None:
            task = state.pops[name] = asyncio.ensure_future(self._pop(state, name))
            task.add_done_callback(lambda _: state.pops.pop(name, None))
        # The wait goes on for the others, and for the next, if this consumer goes: no message is lost.
        await asyncio.wait({task, arrived}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()

    async def _pop(self, state: _LoopState, name: bytes) -> None:
        reply = await state.client.blpop([name], timeout=WAIT)
        opened = None if reply is None else self._vault.open(name, reply[1])
        if reply is None or opened is None:
            return
        channels, message = opened
        if any("!" not in channel for channel in channels) and not await self._is_first(state, reply[1]):
            return
        for channel in channels:
            self._inbox.put(channel, message, self.get_capacity(channel))

    async def _is_first(self, state: _LoopState, blob: bytes) -> bool:
        """Whether no other process has had the message; several work on a channel that is not one's own."""
        mark = NAMES + b"mark:" + hashlib.blake2b(blob, digest_size=12).hexdigest().encode()
        words = (OwnWord(b"SET"), mark, b"1", "NX", "EX", int(self.expiry) + 60)
        is_first = await state.client.execute_command(*words)
        if not is_first:
            self._vault.dropped["replayed"] += 1
        return bool(is_first)

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group. One round trip."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self._members[group, channel] = time.time()
        await self._add([(group, channel)])

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group. One round trip."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self._members.pop((group, channel), None)
        name = self._vault.name("group", group)
        await self._states.here().client.zrem(name, self._vault.seal_member(name, channel))

    async def _add(self, members: list[tuple[str, str]]) -> None:
        now = time.time()
        async with self._states.here().client.pipeline(transaction=False) as pipe:
            for group, channel in members:
                name = self._vault.name("group", group)
                added = self._members.get((group, channel), now)
                pipe.execute_command(_ZADD, name, added, self._vault.seal_member(name, channel))
                pipe.expire(name, int(self.group_expiry))
                pipe.execute_command(_ZADD, INDEX, now + self.group_expiry, name)
            await pipe.execute()

    async def _reassert(self) -> None:
        """Put this process's members back into their groups, now and then."""
        if time.monotonic() < self._reassert_at or not self._members:
            return
        self._reassert_at = time.monotonic() + REASSERT
        oldest = time.time() - self.group_expiry
        self._members = {member: added for member, added in self._members.items() if added > oldest}
        await self._add(list(self._members))

    # The end

    async def flush(self) -> None:
        """Remove everything of this layer's that an index knows; no KEYS, no SCAN. Two round trips."""
        client = self._states.here().client
        names = await client.zrange(INDEX, 0, -1)
        own = [name for name in names if name.startswith(NAMES)]
        await client.unlink(INDEX, *own)
        self._members.clear()
        self._inbox.clear()

    async def close_pools(self) -> None:
        """Close the running loop's connections."""
        await self._states.close()

    close = close_pools

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}>"


def _list_of(channel: str) -> str:
    """Return the part of a channel's name that says where its messages wait."""
    process, mark, _ = channel.partition("!")
    return process + mark
