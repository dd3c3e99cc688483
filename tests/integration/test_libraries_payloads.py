"""RQ, Huey and dramatiq with sealed payloads: they work, and what a neighbour plants is never executed."""

from __future__ import annotations

import datetime
import json
import pickle
import zlib

import dramatiq
import huey
import pytest
import rq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend
from dramatiq.worker import Worker

from tenantkv.contrib import dramatiq as sealed_dramatiq
from tenantkv.contrib import huey as sealed_huey
from tenantkv.contrib import rq as sealed_rq
from tenantkv.contrib.payloads import Payloads
from tenantkv.errors import OpenError
from tests.neighbourhood import neighbourhood, wait_for

ran = []


class Planted:
    """A pickle that would tell."""

    def __reduce__(self):
        return ran.append, ("the pickle",)


def note(word):
    ran.append(word)
    return {"noted": word}


@pytest.fixture
def place(shared_server):
    ran.clear()
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set("a", 1))
        yield place


def stored(place):
    return b"".join(value for value, _ in place.server.dump().values())


def test_payloads_are_bound_to_the_tenant_and_the_library(place):
    payload = Payloads("one", place.namespace).seal(b"[1]")
    assert Payloads("one", place.namespace).open(payload) == b"[1]"
    for other in (Payloads("two", place.namespace), Payloads("one", place.other.namespace)):
        with pytest.raises(OpenError):
            other.open(payload)
    for changed in (b"", payload[1:], payload[:-1] + bytes([payload[-1] ^ 1]), pickle.dumps(Planted())):
        with pytest.raises(OpenError):
            Payloads("one", place.namespace).open(changed)


def test_rq(place):
    class Ours(sealed_rq.Serializer):
        namespace = place.namespace

    serializer = Ours
    queue = rq.Queue("reports", connection=place.kv, serializer=serializer)
    # RQ writes a description of the call in clear, unless it is given another.
    good = queue.enqueue(f"{__name__}.note", "hunter2", description="a note")
    forged = queue.enqueue(f"{__name__}.note", "forged", description="a note")
    name = place.namespace.wire_name(forged.key.encode())
    assert b"hunter2" not in stored(place)
    for payload in (
        pickle.dumps((f"{__name__}.note", None, ("forged",), {})),
        json.dumps([f"{__name__}.note", None, ["forged"], {}]).encode(),
        pickle.dumps(Planted()),
    ):
        place.naive.hset(name, "data", zlib.compress(payload))
        with pytest.raises(rq.exceptions.DeserializationError):
            rq.job.Job.fetch(forged.id, connection=place.kv, serializer=serializer).args
    worker = rq.SimpleWorker([queue], connection=place.kv, serializer=serializer)
    worker.work(burst=True)
    assert ran == ["hunter2"]
    assert good.return_value() == {"noted": "hunter2"}
    assert forged.get_status(refresh=True) == "failed"


def test_rq_finds_the_environments_tenant(place, monkeypatch):
    monkeypatch.setenv("TENANTKV_SECRET_KEYRING", place.namespace.keyring.dump(compact=True))
    found = rq.serializers.resolve_serializer("tenantkv.contrib.rq.Serializer")
    monkeypatch.setattr(sealed_rq.Serializer, "_payloads", Payloads("rq"))
    assert Payloads("rq", place.namespace).open(found.dumps([1])) == b"[1]"


def test_huey(place):
    app = huey.RedisHuey(
        "reports",
        connection_pool=place.pool(),
        serializer=sealed_huey.Serializer(place.namespace),
    )
    record = app.task()(lambda *words, **named: ran.append((words, named)) or (words, named))
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    result = record("hunter2", (1, 2), when=when, blob=b"\x00", nested={"a": [None, True, 1.5]})
    later = record.s("second").then(record, "third")
    later_result = app.enqueue(later)
    assert b"hunter2" not in stored(place)

    place.naive.lpush(place.namespace.wire_name(app.storage.queue_key.encode()), pickle.dumps(Planted()))
    done = 0
    while app.pending_count():
        try:
            app.execute(app.dequeue())
            done += 1
        except OpenError:
            pass
    assert done == 3
    words, named = result.get()
    assert words == ("hunter2", (1, 2))
    assert named == {"when": when, "blob": b"\x00", "nested": {"a": [None, True, 1.5]}}
    assert [each for each in ran if each == "the pickle"] == []
    assert later_result.get() is not None

    fail = app.task(name="fail")(lambda: 1 / 0)
    failed = fail()
    app.execute(app.dequeue())
    with pytest.raises(huey.exceptions.TaskException, match="ZeroDivisionError"):
        failed.get()
    scheduled = record.schedule(("later",), delay=3600)
    app.execute(app.dequeue())
    assert [task.id for task in app.scheduled()] == [scheduled.id]
    with pytest.raises(TypeError, match="object"):
        record(object())


def test_dramatiq(place, monkeypatch):
    encoder = sealed_dramatiq.Encoder(place.namespace)
    monkeypatch.setattr(dramatiq.message, "global_encoder", encoder)
    broker = RedisBroker(client=place.kv, maintenance_chance=0)
    results = RedisBackend(
        client=place.kv, encoder=sealed_dramatiq.Encoder(place.namespace, for_results=True)
    )
    broker.add_middleware(Results(backend=results, store_results=True))
    record = dramatiq.actor(note, broker=broker, actor_name="note", max_retries=0)
    message = record.send("hunter2")
    assert b"hunter2" not in stored(place)
    # Forged ones among genuine ones: the consumer goes on.
    queue = place.namespace.wire_name(b"dramatiq:default")
    plain = {
        **message.asdict(),
        "args": ["forged"],
        "message_id": "forged",
        "options": {"redis_message_id": "forged"},
    }
    for id_, payload in ((b"forged", json.dumps(plain).encode()), (b"pickle", pickle.dumps(Planted()))):
        place.naive.hset(queue + b".msgs", id_, payload)
        place.naive.rpush(queue, id_)
    after = record.send("after")
    worker = Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    try:
        wait_for("the last", lambda: "after" in ran)
    finally:
        worker.stop()
    assert ran == ["hunter2", "after"]
    assert message.get_result(backend=results, block=True, timeout=5000) == {"noted": "hunter2"}
    assert encoder.dropped >= 2
    # A planted result is none.
    key = place.namespace.wire_name(results.build_message_key(after).encode())
    place.naive.delete(key)
    place.naive.lpush(key, json.dumps({"result": "planted"}))
    with pytest.raises((ResultMissing, dramatiq.DecodeError)):
        after.get_result(backend=results)
    broker.close()
