"""Secrets of every namespace that a test session makes, and a watch for them in logs and warnings.

Loaded by conftest.py as a plugin: every log record and every warning of the whole suite is looked at, and
the session fails if one of them holds a prefix or key material.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace

_known: dict[str, str] = {}
_found: list[str] = []
_make_namespace = Namespace.__init__


def secrets_of(keyring: Keyring) -> dict[str, str]:
    """Return what must never show, in every form in which it could: secret -> what it is."""
    raw = {"naming": keyring.naming, **{f"key {key.id}": key.secret for key in keyring.keys}}
    forms = {keyring.prefix: "prefix"}
    for what, secret in raw.items():
        for form in (
            secret.hex(),
            base64.b64encode(secret).decode(),
            base64.urlsafe_b64encode(secret).decode(),
            repr(secret)[2:-1],
        ):
            forms[form] = what
    return forms


def leaks(text: str | bytes, secrets: dict[str, str] | None = None) -> list[str]:
    """Return which secrets stand in `text`."""
    shown = text.decode("latin-1") if isinstance(text, bytes) else text
    known = _known if secrets is None else secrets
    return sorted({what for secret, what in known.items() if secret in shown})


def _remember(self: Namespace, keyring: Keyring, **options: Any) -> None:
    _make_namespace(self, keyring, **options)
    if isinstance(keyring, Keyring):
        _known.update(secrets_of(keyring))


class _Watch(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.getMessage()} {record.__dict__!r}"
        if record.exc_info and record.exc_info[1] is not None:
            text += repr(record.exc_info[1])
        if any(secret in text for secret in _known):
            _found.append(f"log record of {record.name!r}: {', '.join(leaks(text))}")


def pytest_configure(config: pytest.Config) -> None:
    # Not by monkeypatch: it has to last for the session, and see namespaces made at import.
    Namespace.__init__ = _remember  # type: ignore[method-assign]
    watch = _Watch(logging.DEBUG)
    logging.getLogger().addHandler(watch)
    for name in ("tenantkv", "redis", "push_response", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)


def pytest_warning_recorded(warning_message: Any, when: str, nodeid: str) -> None:
    found = leaks(str(warning_message.message))
    if found:
        _found.append(f"warning in {nodeid}: {', '.join(found)}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _found:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in dict.fromkeys(_found):
        terminalreporter.write_line(f"SECRET LEAKED: {line}", red=True)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error with its causes, its contexts and the errors in its group, each once."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        related: Iterable[Any] = (current.__cause__, current.__context__, *getattr(current, "exceptions", ()))
        waiting += [each for each in related if each is not None]
