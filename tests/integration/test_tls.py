"""``rediss://``: certificates are verified, and the lean paths know that TLS sockets are different."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import tenantkv
from tenantkv import Keyring, Namespace
from tests import sockets
from tests.servers import RealServer


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    )
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key_path.chmod(0o600)
    return cert_path, key_path


class Terminator:
    """TLS in front of a server's socket, as stunnel does it: not every server is built with TLS."""

    def __init__(self, socket_path: str, cert: Path, key: Path) -> None:
        self._socket_path = socket_path
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            client = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            return
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._socket_path)
            client.setblocking(False)
            while True:
                ready, _, _ = select.select([client, server], [], [], 10)
                if not ready:
                    return
                if server in ready and not self._pass_on(server.recv(65536), client):
                    return
                if client in ready and not self._take(client, server):
                    return

    def _pass_on(self, data: bytes, client: ssl.SSLSocket) -> bool:
        client.setblocking(True)
        client.sendall(data)
        client.setblocking(False)
        return bool(data)

    def _take(self, client: ssl.SSLSocket, server: socket.socket) -> bool:
        while True:
            try:
                data = client.recv(65536)
            except ssl.SSLWantReadError:
                return True
            except OSError:
                return False
            if not data:
                return False
            server.sendall(data)

    def close(self) -> None:
        sockets.end(self._listener)


@pytest.fixture
def tls(open_server: RealServer, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    cert, key = certificate(tmp_path)
    terminator = Terminator(str(open_server.socket_path), cert, key)
    yield f"rediss://127.0.0.1:{terminator.port}", cert
    terminator.close()


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_over_tls(tls: tuple[str, Path], namespace: Namespace, protocol: int) -> None:
    url, cert = tls
    kv = tenantkv.connect(f"{url}?ssl_ca_certs={cert}", namespace=namespace, protocol=protocol)
    big = os.urandom(300_000)
    for _ in range(3):
        kv.set("big", big)
        assert kv.get("big") == big
    assert kv.pipeline().set("a", 1).get("a").execute() == [True, b"1"]
    assert kv.blpop(["none"], timeout=1) is None
    assert kv.client_id() == kv.client_id(), "one connection serves one command after the other"
    kv.close()


def test_commands_over_tls_with_asyncio(tls: tuple[str, Path], namespace: Namespace) -> None:
    url, cert = tls

    async def work() -> None:
        akv = tenantkv.asyncio.connect(f"{url}?ssl_ca_certs={cert}", namespace=namespace)
        big = os.urandom(300_000)
        await akv.set("big", big)
        assert await akv.get("big") == big
        assert await akv.client_id() == await akv.client_id()
        assert await asyncio.gather(*(akv.incr("n") for _ in range(40)))
        assert await akv.get("n") == b"40"
        await akv.aclose()

    asyncio.run(work())


def test_an_unknown_certificate_is_not_accepted(tls: tuple[str, Path], namespace: Namespace) -> None:
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    kv = tenantkv.connect(tls[0], namespace=namespace, retry=retry)
    with pytest.raises(redis.ConnectionError, match=r"(?i)certificate"):
        kv.ping()
