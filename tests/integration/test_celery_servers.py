"""Celery over TLS, unix sockets and Sentinels, and with every kind of pool."""

from __future__ import annotations

import os
import time

import pytest
from celery import Celery

from tenantkv import Keyring, Namespace
from tenantkv.contrib.celery import configure
from tests.integration.celery_place import tool
from tests.integration.test_tls import Terminator, certificate
from tests.neighbourhood import wait_for
from tests.servers import start_tcp
from tests.topologies import start_sentinel


@pytest.fixture(scope="module")
def server():
    running = start_tcp("shared")
    yield running
    running.stop()


def application(url, **options):
    app = Celery("tool", set_as_current=False)
    configure(app, url, namespace=Namespace(Keyring.generate(os.urandom(96))), **options)
    return app


def round_trip(app):
    """Send a task and take it again; store a result and read it."""
    app.send_task("somewhere.else", ["argument"], queue="orders")
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("orders")
        assert message.headers["task"] == "somewhere.else"
        message.ack()
        assert connection.default_channel.basic_get("orders") is None
    app.backend.store_result("an-id", 42, "SUCCESS")
    assert app.AsyncResult("an-id").get(timeout=5) == 42
    app.close()


def test_a_unix_socket(server):
    round_trip(application(f"tenantkv+socket://{server.socket_path}?virtual_host=3"))
    assert "db3" in server.operator().info("keyspace")


def test_tls_is_verified(server, tmp_path):
    cert, key = certificate(tmp_path)
    terminator = Terminator(server.socket_path, cert, key)
    url = f"tenantkv+rediss://127.0.0.1:{terminator.port}/0"
    try:
        round_trip(application(f"{url}?ssl_ca_certs={cert}"))
        with pytest.raises(Exception, match=r"(?i)certificate"):
            application(url).connection_for_write().ensure_connection(max_retries=1, timeout=5)
        app = Celery("tool", set_as_current=False)
        app.conf.broker_use_ssl = app.conf.redis_backend_use_ssl = {
            "ssl_ca_certs": str(cert),
            "ssl_cert_reqs": "required",
        }
        namespace = Namespace(Keyring.generate(os.urandom(96)))
        configure(app, f"tenantkv://127.0.0.1:{terminator.port}/0", namespace=namespace)
        round_trip(app)
    finally:
        terminator.close()


@pytest.mark.topology
def test_sentinels_and_a_failover(tmp_path):
    with start_sentinel("shared") as topology:
        hosts = ";".join(f"sentinel://{host}:{port}/0" for host, port in topology.addresses)
        app = application(f"tenantkv+{hosts}", master_name=topology.service_name)
        round_trip(app)
        app = application(f"tenantkv+{hosts}", master_name=topology.service_name)
        app.send_task("somewhere.else", queue="before")
        topology.primary.operator().wait(1, 2000)
        topology.fail_over()
        deadline = time.monotonic() + 60
        while True:
            try:
                app.send_task("somewhere.else", queue="after")
                break
            except Exception:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        with app.connection_for_read() as connection:
            for queue in ("before", "after"):
                assert connection.default_channel.basic_get(queue, no_ack=True) is not None
        app.close()


@pytest.mark.parametrize("pool", ["threads", pytest.param("gevent", marks=pytest.mark.slow)])
def test_pools(server, tmp_path, pool):
    if pool == "gevent":
        pytest.importorskip("gevent")
    with tool(server, tmp_path, visibility_timeout=2) as one:
        worker = one.start("-c", "4", pool=pool)
        results = [one.call("who", f"{pool}{n}") for n in range(20)]
        results.append(one.call("hold", f"{pool}-long", 4.0))
        results.append(one.call("who", f"{pool}-eta", countdown=4))
        assert [result.get(timeout=30) is not None for result in results] == [True] * 22
        assert [one.ran(f"{pool}{n}") for n in range(20)] == [1] * 20
        assert one.ran(f"{pool}-long", "began") == one.ran(f"{pool}-eta") == 1
        assert len(one.app.control.ping(timeout=1)) == 1
        worker.terminate()
        worker.wait(30)
        wait_for("nothing to be held", lambda: not one.raw.hlen(one.wire("unacked")))
