"""``tenantkv proxy`` in front of servers of every make, over TLS, with names hidden and values sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli_program import Program, neighbours_names
from tests.integration.test_proxy import running
from tests.integration.test_tls import Terminator, certificate
from tests.neighbourhood import wait_for
from tests.servers import RealServer

HIDDEN = {"seal": "yes", "names": "hidden", "plaintext_keys": "n"}


def session(kv: redis.Redis) -> None:
    """Use a little of everything."""
    kv.mset({"greeting": "hello", "other": "there"})
    assert kv.mget("greeting", "none", "other") == [b"hello", None, b"there"]
    kv.hset("h", mapping={"f": "v"})
    kv.sadd("s", "x")
    kv.xadd("x", {"f": "v"}, id="1-1")
    assert (kv.hgetall("h"), kv.smembers("s")) == ({b"f": b"v"}, {b"x"})
    assert b"greeting" not in repr(kv.xread({"x": 0})).encode()
    kv.rpush("l", "one")
    assert list(kv.blpop(["none", "l"], 5)) == [b"l", b"one"]
    with kv.pipeline() as pipe:
        pipe.watch("n")
        pipe.multi()
        assert pipe.incr("n").get("greeting").execute() == [1, b"hello"]
    assert sorted(kv.keys()) == [b"greeting", b"h", b"n", b"other", b"s", b"x"] == sorted(kv.scan_iter())
    with pytest.raises(redis.ResponseError, match="FLUSHALL refused"):
        kv.flushall()
    with kv.pubsub() as listener:
        listener.subscribe("news")
        heard: list[Any] = []
        wait_for("the subscription", lambda: listener.get_message(timeout=1))
        assert kv.publish("news", "said") == 1
        wait_for("the message", lambda: heard.append(listener.get_message(timeout=1)) or heard[-1])
        assert (heard[-1]["channel"], heard[-1]["data"]) == (b"news", b"said")


@pytest.mark.parametrize("settings", [{}, HIDDEN], ids=["plain", "hidden"])
def test_every_make_of_server(
    tmp_path: Path, any_shared_server: RealServer, settings: dict[str, str]
) -> None:
    server = any_shared_server
    theirs = neighbours_names(server)
    program = Program(tmp_path, server.url, settings)
    with running(program, "--allow-flush") as proxy:
        for protocol in (2, 3):
            with proxy.connect(protocol=protocol) as kv:
                session(kv)
                names = server.dump_keys()
                own = {name for name in names if name not in theirs}
                assert all(name.startswith(program.namespace.wire_prefix) for name in own)
                assert any(name.endswith(b":greeting") for name in own) == (not settings)
                kv.flushdb()
    assert server.dump_keys() >= theirs.keys()


def test_a_server_behind_tls(tmp_path: Path, shared_server: RealServer) -> None:
    cert, key = certificate(tmp_path)
    terminator = Terminator(shared_server.socket_path, cert, key)
    try:
        program = Program(tmp_path, f"rediss://127.0.0.1:{terminator.port}?ssl_ca_certs={cert}")
        with running(program) as proxy, proxy.connect(protocol=3) as kv:
            session(kv)
        # A certificate that nobody vouches for is an error, and never a connection in clear.
        (tmp_path / "other").mkdir()
        program = Program(tmp_path / "other", f"rediss://127.0.0.1:{terminator.port}")
        refused = pytest.raises((redis.ResponseError, redis.ConnectionError), match="cannot be reached")
        with running(program) as proxy, proxy.connect(retry=None) as kv, refused:
            kv.get("greeting")
    finally:
        terminator.close()
