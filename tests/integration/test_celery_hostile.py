"""A neighbour with full knowledge of our names reads, forges, swaps, replays, deletes and retypes.

He has the prefix here, which he should not have; what he never has is a key.
"""

from __future__ import annotations

import base64
import json
import pickle
import time
import uuid

import pytest
from celery import chord, signature

from tests.integration.celery_place import Tool, tool
from tests.neighbourhood import wait_for
from tests.servers import start_tcp


@pytest.fixture(scope="module")
def server():
    running = start_tcp("shared")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("celery")


@pytest.fixture(scope="module")
def one(server, logs):
    """A tool with one worker, which runs its tasks itself: its counters are what it dropped."""
    with tool(server, logs, "one", visibility_timeout=6) as place:
        place.start("-Q", "celery,second")
        yield place


def dropped(place: Tool) -> dict[str, int]:
    return place.call("counted").get(timeout=20)


def message(task: str, *args: object) -> dict:
    """Return a message as stock Celery puts it into a list."""
    body = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    id_ = str(uuid.uuid4())
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": id_, "argsrepr": repr(args), "kwargsrepr": "{}"},
        "properties": {
            "correlation_id": id_,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def captured(place: Tool, queue: str, *words: str) -> bytes:
    """Send a task into a queue that nobody works on, and return it as the neighbour finds it."""
    place.call("who", *words, queue=queue)
    blobs = place.raw.lrange(place.wire(queue), 0, -1)
    assert len(blobs) == 1
    return blobs[0]


def test_forged_tasks_do_not_run(one):
    before = dropped(one)
    trap = message("celery_tool.who", "forged")
    executable = {**trap, "content-type": "application/x-python-serialize"}
    executable["body"] = base64.b64encode(pickle.dumps(([], {}, {}))).decode()
    trusted = {**trap, "content-type": "application/data"}
    forged = [
        *(json.dumps(each).encode() for each in (trap, executable, trusted)),
        b"garbage",
        b"",
        b"\x01",
        b"\xff" * 200,
        b"\x01\xc1\x01\x00" + b"\x00" * 200,
        pickle.dumps(trap),
    ]
    one.raw.lpush(one.wire("celery"), *forged)
    one.raw.lpush(one.wire("celery\x06\x169"), *forged)
    # The next honest task is served, by the same worker.
    assert one.call("who", "honest").get(timeout=20) == ["one", "honest"]

    def told() -> int:
        after = dropped(one)
        return sum(after.get(r, 0) - before.get(r, 0) for r in ("forged", "replayed"))

    # What is in both lists was seen before the second time.
    wait_for("all of them to be counted", lambda: told() == 2 * len(forged))
    assert one.ran("forged") == 0
    log = one.log("worker")
    assert "did not open" in log
    assert "celery_tool.who" not in log.split("did not open")[1].splitlines()[0]


def test_a_flood_does_not_stop_the_worker(one):
    before = dropped(one).get("forged", 0)
    for start in range(0, 3000, 500):
        one.raw.lpush(one.wire("celery"), *(b"flood %d" % n for n in range(start, start + 500)))
    assert one.call("who", "after-the-flood").get(timeout=60)[1] == "after-the-flood"
    assert dropped(one)["forged"] - before == 3000


def test_a_replayed_task_runs_once_also_with_another_worker(one, server):
    blob = captured(one, "later", "replayed")
    second = one.start("-Q", "later", name="second")
    wait_for("the first run", lambda: one.ran("replayed") == 1)
    one.raw.lpush(one.wire("later"), blob, blob)
    assert one.call("who", "after-replay", queue="later").get(timeout=20)[1] == "after-replay"
    second.terminate()
    second.wait(20)
    # A worker that has seen nothing yet.
    one.raw.lpush(one.wire("later"), blob)
    third = one.start("-Q", "later", name="third")
    assert one.call("who", "after-third", queue="later").get(timeout=20)[1] == "after-third"
    third.terminate()
    third.wait(20)
    assert one.ran("replayed") == 1
    assert "had been delivered before" in one.log("second") + one.log("third")


def test_a_message_that_is_moved_or_changed_does_not_run(one):
    blob = captured(one, "parked", "moved")
    flipped = blob[:-1] + bytes([blob[-1] ^ 1])
    one.raw.lpush(one.wire("celery"), blob, flipped)
    one.raw.lpush(one.wire("second"), blob)
    one.raw.lpush(one.wire("celery\x06\x169"), blob)
    one.raw.hset(one.wire("unacked"), "claim", b"6:celery" + blob)
    one.raw.zadd(one.wire("unacked_index"), {"claim": 1})
    wait_for("the planted claim to be gone", lambda: not one.raw.hexists(one.wire("unacked"), "claim"))
    assert one.call("who", "after-move", queue="second").get(timeout=20)[1] == "after-move"
    assert one.call("who", "after-move").get(timeout=20)[1] == "after-move"
    assert one.ran("moved") == 0


def test_a_claim_that_is_put_back_does_not_run_again(one):
    """The row of a message that was acknowledged long ago, captured while it was held."""
    held = one.call("hold", "held", 1.5)
    row = wait_for("the claim", lambda: one.raw.hgetall(one.wire("unacked")))
    assert held.get(timeout=20) is False
    wait_for("the acknowledgement", lambda: not one.raw.hlen(one.wire("unacked")))
    for claim, packed in row.items():
        one.raw.hset(one.wire("unacked"), mapping={claim: packed, b"another": packed})
        one.raw.zadd(one.wire("unacked_index"), {claim: 1, b"another": 1})
    wait_for("both to be gone", lambda: not one.raw.hlen(one.wire("unacked")), patience=40)
    assert one.call("who", "after-row").get(timeout=20)[1] == "after-row"
    assert one.ran("held") == 1


def test_the_message_of_another_tenant_does_not_run(one, server, logs):
    with tool(server, logs, "two") as two:
        blob = captured(two, "celery", "foreign")
        one.raw.lpush(one.wire("celery"), blob)
        # What he planned as an answer of his to our question.
        assert one.call("who", "after-foreign").get(timeout=20)[1] == "after-foreign"
        assert one.ran("foreign") == two.ran("foreign") == 0


def test_forged_and_replayed_commands_to_workers_are_dropped(one):
    channel = one.namespace.channel_prefix + b"/0.celery.pidbox"
    heard = one.raw.pubsub()
    heard.psubscribe(one.namespace.channel_prefix + b"*")
    command = {"method": "shutdown", "arguments": {}, "destination": None}
    forged = message("", "")
    forged["body"] = base64.b64encode(json.dumps(command).encode()).decode()
    for data in (json.dumps(forged), b"garbage", b"\x01\xc1"):
        assert one.raw.publish(channel, data) == 2
    one.app.control.shutdown(destination=["nobody@host"])
    genuine = wait_for("a command", lambda: take(heard, channel))
    for _ in range(3):
        one.raw.publish(channel, genuine)
        # The same bytes somewhere else.
        one.raw.publish(one.namespace.channel_prefix + b"/0.celeryev/worker.heartbeat", genuine)
    assert len(one.app.control.ping(timeout=1)) == 1
    heard.close()


def take(pubsub, channel):
    pushed = pubsub.get_message(timeout=0.2)
    genuine = pushed and pushed["type"] == "pmessage" and pushed["channel"] == channel
    return (
        pushed["data"] if genuine and pushed["data"][:2] == b"\x01\xc1" and len(pushed["data"]) > 50 else None
    )


@pytest.mark.slow
def test_a_shutdown_that_is_recorded_does_not_stop_the_next_worker(one, server, logs):
    with tool(server, logs, "three") as three:
        heard = three.raw.pubsub()
        channel = three.namespace.channel_prefix + b"/0.celery.pidbox"
        heard.psubscribe(channel)
        worker = three.start()
        three.app.control.shutdown()
        genuine = wait_for("the command", lambda: take(heard, channel))
        assert worker.wait(20) == 0
        time.sleep(5)  # what counts as the time before a worker listened
        again = three.start(name="again")
        for _ in range(3):
            three.raw.publish(channel, genuine)
        assert three.call("who", "alive").get(timeout=20)[1] == "alive"
        assert again.poll() is None
        heard.close()


def test_planted_and_swapped_results_are_not_believed(one):
    first, other = one.call("add", 1, 1), one.call("add", 40, 2)
    assert (first.get(timeout=20), other.get(timeout=20)) == (2, 42)
    key = one.wire(f"celery-task-meta-{first.id}")
    swapped = one.raw.get(one.wire(f"celery-task-meta-{other.id}"))
    plain = json.dumps(
        {"status": "SUCCESS", "result": 666, "task_id": first.id, "traceback": None, "children": []}
    )
    for planted in (swapped, plain.encode(), b"garbage", b"\x01\xc1\x01\x00" + b"x" * 100):
        one.raw.set(key, planted)
        assert one.app.AsyncResult(first.id).state == "PENDING"
        one.raw.publish(one.namespace.channel_prefix + f"celery-task-meta-{first.id}".encode(), planted)
    # A result that is waited for: the planted ones are passed over, the genuine one arrives.
    slow = one.call("hold", "slow", 1.0)
    name = f"celery-task-meta-{slow.id}"
    one.raw.set(one.wire(name), plain)
    one.raw.publish(one.namespace.channel_prefix + name.encode(), plain)
    assert slow.get(timeout=20) is False


def test_keys_of_another_type_are_healed(one):
    keys = ("celery", "celery\x06\x169", "unacked", "unacked_index", "_kombu.binding.celery")
    ours = ("tkv:celery:marks", "tkv:celery:marks:before", "tkv:celery:ledger", "tkv:celery:bell:celery")
    for key in (*keys, *ours):
        one.raw.delete(one.wire(key))
        one.raw.set(one.wire(key), "x")
        assert one.call("who", f"after-{key}").get(timeout=30)[1] == f"after-{key}"
    result = one.call("add", 1, 1)
    result.get(timeout=20)
    one.raw.delete(one.wire(f"celery-task-meta-{result.id}"))
    one.raw.lpush(one.wire(f"celery-task-meta-{result.id}"), "x")
    assert one.app.AsyncResult(result.id).state == "PENDING"


def test_deleted_and_forged_bindings_lose_nothing(one):
    """A queue that is bound to an exchange with a name: stock kombu drops what is published to it."""
    from kombu import Exchange, Queue

    exchange = Exchange("orders", type="topic")
    queue = Queue("orders-queue", exchange, routing_key="order.*")
    with one.app.connection_for_write() as connection:
        channel = connection.channel()
        queue(channel).declare()
        producer = connection.Producer(channel)
        table = one.wire("_kombu.binding.orders")
        one.raw.delete(table)
        one.raw.sadd(table, b"order.*\x06\x16\x06\x16neighbours-queue", b"\xff")
        for number in range(3):
            producer.publish({"n": number}, exchange=exchange, routing_key="order.new")
        got = [queue(channel).get(no_ack=True) for _ in range(3)]
        assert [each.payload["n"] for each in got] == [0, 1, 2]
        assert queue(channel).get() is None
        assert one.raw.exists(one.wire("neighbours-queue")) == 0
        # Requeued, a message comes back although there is no table.
        producer.publish({"n": 3}, exchange=exchange, routing_key="order.new")
        kept = queue(channel).get()
        one.raw.delete(table)
        kept.requeue()
        again = queue(channel).get()
        assert again.payload == {"n": 3}
        assert again.headers["redelivered"] is True
        again.ack()
        assert one.raw.hlen(one.wire("unacked")) == 0


def signed(place: Tool, task: str, *args: object, **options: object):
    return signature(f"celery_tool.{task}", args=args, app=place.app, **options)


def test_a_chord_whose_counters_are_forged_or_lost_ends_right(one):
    for attack in ("small", "large", "lost", "difference", "part", "types"):
        header = [signed(one, "add", n, n) for n in range(3)]
        header.append(signed(one, "hold", attack, 1.0))
        body = signed(one, "who", f"chord-{attack}")
        body.set(immutable=True)
        result = chord(header, app=one.app)(body)
        gid = result.parent.id
        size, difference, parts = (one.wire(f"celery-taskset-meta-{gid}{end}") for end in (".s", ".t", ".j"))
        wait_for("the size", lambda size=size: one.raw.exists(size))
        if attack == "small":
            one.raw.set(size, 2)
        elif attack == "large":
            one.raw.set(size, 9)
        elif attack == "lost":
            one.raw.delete(size)
        elif attack == "difference":
            one.raw.set(difference, -2)
        elif attack == "part":
            one.raw.zadd(parts, {b"[1, 2, 3]": 7, b"\x01\xc1": 8})
        else:
            # At once, or the worker writes in between.
            one.raw.pipeline().delete(parts, size).set(parts, "x").sadd(size, "x").execute()
            continue  # the parts that were there are gone, so there is nothing to wait for
        assert result.get(timeout=30)[1] == f"chord-{attack}"
        assert one.ran(f"chord-{attack}") == 1
        assert one.ran(attack) == 1
