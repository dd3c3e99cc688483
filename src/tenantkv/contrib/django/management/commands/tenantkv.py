"""``manage.py tenantkv status|keys|clear|doctor``: the site's caches on the shared server."""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from typing import Any

from django.core import checks
from django.core.cache import caches
from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from tenantkv.cli.output import clean
from tenantkv.config import resolve
from tenantkv.contrib.django.backend import TenantCache
from tenantkv.contrib.django.checks import check_celery, check_deployment, check_settings, ours
from tenantkv.errors import TenantKVError


@dataclass(frozen=True, slots=True)
class Status:
    """One cache.

    Attributes:
        alias: in CACHES.
        name: the cache's; aliases of one name are one cache.
        server: its URL, without password.
        fingerprint: names the identity.
        values: ``sealed`` or ``signed``.
        sessions: the same, of sessions in this cache.
        registry: whether keys can be listed where the server has no SCAN.
        is_up: whether the server answers.
        latency_ms: of one round trip.
    """

    alias: str
    name: str
    server: str
    fingerprint: str
    values: str
    sessions: str
    registry: bool
    is_up: bool
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What `doctor` found.

    Attributes:
        severity: ``ok``, ``warn`` or ``fail``.
        text: what is so.
        remedy: what to do about it.
    """

    severity: str
    text: str
    remedy: str = ""


class Command(BaseCommand):
    """See the module."""

    help = "Look after the caches whose backend is tenantkv's."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the subcommands."""
        subcommands = parser.add_subparsers(dest="action", required=True)
        for name, text in (
            ("status", "show which caches there are, and whether their server answers"),
            ("keys", "list the keys of a cache"),
            ("clear", "end all entries of a cache, of all versions, sessions among them"),
            ("doctor", "look for what is wrong; exit code 1 if something is"),
        ):
            sub = subcommands.add_parser(name, help=text, description=text)
            sub.add_argument("--json", action="store_true", help="print JSON")
            if name != "doctor":
                default = None if name == "status" else "default"
                sub.add_argument("--cache", metavar="ALIAS", default=default, help="which entry of CACHES")
            if name == "keys":
                sub.add_argument("pattern", nargs="?", default="*", help="a glob; all if left out")
                sub.add_argument("--version", type=int, dest="key_version", help="of the keys")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Run a subcommand."""
        try:
            getattr(self, f"_{action}")(options)
        except TenantKVError as error:
            raise CommandError(clean(str(error))) from None
        except RedisError as error:
            raise CommandError(f"the server does not answer: {clean(str(error))}") from None

    def _status(self, options: dict[str, Any]) -> None:
        aliases = [options["cache"]] if options["cache"] else list(ours())
        found = [status_of(alias) for alias in aliases]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(status) for status in found], indent=2))
            return
        if not found:
            self.stdout.write("no entry of CACHES has the backend tenantkv.contrib.django.TenantCache")
        for status in found:
            answer = f"answers in {status.latency_ms} ms" if status.is_up else "does not answer"
            self.stdout.write(f"{status.alias}: cache {status.name!r} on {clean(status.server)}, {answer}")
            self.stdout.write(f"  identity {status.fingerprint}, values {status.values}, ", ending="")
            listed = "registry on" if status.registry else "registry off"
            self.stdout.write(f"sessions {status.sessions}, {listed}")

    def _keys(self, options: dict[str, Any]) -> None:
        names = _backend(options["cache"]).keys(options["pattern"], version=options["key_version"])
        if options["json"]:
            self.stdout.write(json.dumps(names, indent=2))
            return
        for name in names:
            self.stdout.write(clean(name))

    def _clear(self, options: dict[str, Any]) -> None:
        is_heard = _backend(options["cache"]).clear()
        if options["json"]:
            self.stdout.write(json.dumps({"cleared": bool(is_heard)}))
        if not is_heard:
            raise CommandError("the server does not answer, so nothing was cleared")
        if not options["json"]:
            self.stdout.write(f"cleared {options['cache']}")

    def _doctor(self, options: dict[str, Any]) -> None:
        found = examine()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in found], indent=2))
        else:
            # Made at run time, so that no checker knows them.
            style: Any = self.style
            styles = {"ok": style.SUCCESS, "warn": style.WARNING, "fail": style.ERROR}
            for finding in found:
                self.stdout.write(
                    f"{styles[finding.severity](finding.severity.ljust(4))} {clean(finding.text)}"
                )
                if finding.remedy:
                    self.stdout.write(f"     {clean(finding.remedy)}")
        if any(finding.severity == "fail" for finding in found):
            raise CommandError("something is wrong", returncode=1)


def status_of(alias: str) -> Status:
    """Describe one cache; asks its server once."""
    backend = _backend(alias)
    store = backend._store
    options = store.options
    namespace = store.client.namespace
    protection = namespace.protection
    values = "sealed" if protection.seal and protection.mode == "seal" else "signed"
    latency = _latency(backend)
    return Status(
        alias=alias,
        name=options.name,
        server=resolve(options.url, environ=os.environ).redacted_url,
        fingerprint=namespace.fingerprint,
        values=values,
        sessions="sealed" if options.seal_sessions else values,
        registry=bool(getattr(store.client.connection_pool, "registrars", None)),
        is_up=latency is not None,
        latency_ms=latency,
    )


def _latency(backend: TenantCache) -> float | None:
    client = backend._store.client
    try:
        # The first one connects.
        client.ping()
        started = time.perf_counter()
        client.ping()
    except RedisError:
        return None
    return round((time.perf_counter() - started) * 1000, 2)


def examine() -> list[Finding]:
    """Return what is right and wrong: the system checks, and a round trip for each cache."""
    messages = [*check_settings(), *check_deployment(), *check_celery()]
    found = [
        Finding("fail" if message.level >= checks.ERROR else "warn", message.msg, message.hint or "")
        for message in messages
        if message.level > checks.INFO
    ]
    aliases = list(ours())
    if not aliases:
        remedy = 'CACHES = {"default": {"BACKEND": "tenantkv.contrib.django.TenantCache"}}'
        found.append(Finding("warn", "no entry of CACHES has our backend", remedy))
    for alias in aliases:
        try:
            found += _tried(alias)
        except TenantKVError as error:
            found.append(Finding("fail", f"{alias}: {error}"))
    return found


def _tried(alias: str) -> list[Finding]:
    backend = _backend(alias)
    probe = f"tenantkv-doctor-{os.getpid()}"
    if not backend.set(probe, {"probe": (1, 2)}, timeout=60):
        return [Finding("fail", f"{alias}: the server does not answer, or takes no writes", "See LOCATION.")]
    value = backend.get(probe)
    backend.delete(probe)
    if value != {"probe": (1, 2)}:
        remedy = "Other processes may have another keyring, or somebody writes over your keys."
        return [Finding("fail", f"{alias}: what was written did not come back", remedy)]
    return [Finding("ok", f"{alias}: written, read and deleted in cache {backend._store.options.name!r}")]


def _backend(alias: str) -> TenantCache:
    if alias not in ours():
        raise CommandError(f"CACHES has no {alias!r} with the backend tenantkv.contrib.django.TenantCache")
    backend: Any = caches[alias]
    found: TenantCache = backend
    return found
