"""The audit: each family of checks in turn, as far as there is something to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import AuthenticationError, InvalidResponse, RedisError

from tenantkv.config import Settings, resolve
from tenantkv.doctor.copies import check_copies, walk
from tenantkv.doctor.facts import Facts
from tenantkv.doctor.finding import Finding
from tenantkv.doctor.identity import check_keyring, check_no_keyring, check_protection
from tenantkv.doctor.libraries import check_libraries
from tenantkv.doctor.network import check_access, check_url
from tenantkv.doctor.nodes import Nodes, ask, merged
from tenantkv.doctor.server import check_server
from tenantkv.doctor.sources import check_sources
from tenantkv.doctor.tenant import Tenant, tenant_of
from tenantkv.doctor.traces import check_traces
from tenantkv.errors import ConfigurationError, KeyringError
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import load_keyring
from tenantkv.namespace import Namespace
from tenantkv.rotation import settled

#: The families, in the order in which they are reported.
FAMILIES = ("network", "server", "exposure", "traces", "identity", "copies", "libraries", "code")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at.

    Attributes:
        environ: the environment.
        namespace: the keyring's label; as the environment says if left out.
        path: the project's directory; ``None`` to leave files alone.
        families: only these; all if empty.
        timeout: seconds for connecting and for each reply of the server's.
        reads: asks the server; another one in tests.
    """

    environ: Mapping[str, str]
    namespace: str | None = None
    path: Path | None = None
    families: frozenset[str] = frozenset()
    timeout: float = 5.0
    reads: Callable[[Settings, float], Nodes] | None = None

    def wants(self, *families: str) -> bool:
        """Whether any of these families is asked for."""
        return not self.families or bool(self.families & set(families))


def audit(scope: Scope) -> list[Finding]:
    """Look at everything that is in scope. Changes nothing, here or there.

    Raises:
        ConfigurationError: the settings cannot be read, so that there is nothing to look for.
    """
    settings = resolve(environ=scope.environ, namespace=scope.namespace)
    keyring, tenant, problem = _identity(settings, scope.environ)
    findings: list[Finding] = []
    facts: Facts | None = None
    if scope.wants("network", "server", "exposure", "traces", "identity"):
        facts = _server(settings, tenant, scope, findings)
    if problem is not None:
        findings.append(check_no_keyring(problem))
    if keyring is not None and tenant is not None:
        findings += check_keyring(keyring)
        findings += check_protection(tenant, facts)
    tree = None
    if scope.path is not None and scope.wants("copies", "code"):
        tree = walk(scope.path)
    if tenant is not None and scope.wants("copies"):
        findings += check_copies(tenant, scope.environ, tree, keyring=_file(keyring))
    if scope.wants("libraries"):
        findings += check_libraries()
    if tree is not None and scope.wants("code"):
        findings += check_sources(tree, seals=tenant is not None and tenant.seals)
    return _sorted(each for each in findings if scope.wants(each.family))


def _identity(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[Keyring | None, Tenant | None, KeyringError | None]:
    try:
        keyring = load_keyring(namespace=settings.namespace, environ=environ)
    except KeyringError as error:
        return None, None, error
    space = Namespace(settled(keyring), placement=settings.placement, protection=settings.protect(keyring))
    return keyring, tenant_of(space, lists=settings.registry), None


def _file(keyring: Keyring | None) -> Path | None:
    source = keyring.source if keyring is not None else None
    return None if not source or source.startswith("env:") else Path(source)


def _server(settings: Settings, tenant: Tenant | None, scope: Scope, findings: list[Finding]) -> Facts | None:
    findings += check_url(settings)
    if settings.kind in ("embedded", "memory"):
        return None
    try:
        nodes = (scope.reads or ask)(settings, scope.timeout)
    except (RedisError, OSError) as error:
        nodes = {"": error}
    findings += merged({name: _judge(each, settings, tenant) for name, each in nodes.items()})
    known = [each for each in nodes.values() if isinstance(each, Facts) and (each.info or each.commands)]
    return known[0] if known else None


def _judge(facts: Facts | Exception, settings: Settings, tenant: Tenant | None) -> list[Finding]:
    if isinstance(facts, InvalidResponse):
        return [_no_redis(settings, Facts({}, {}))]
    if isinstance(facts, Exception):
        return [_unreachable(settings, facts)]
    if not facts.info and not facts.commands:
        return [_no_redis(settings, facts)]
    found = [*check_access(facts, settings), *check_server(facts, tenant)]
    return [*found, *check_traces(facts, tenant)] if tenant is not None else found


def _unreachable(settings: Settings, error: Exception) -> Finding:
    if isinstance(error, AuthenticationError):
        return Finding(
            "network.server",
            "fail",
            "the server wants a password, or another one",
            type(error).__name__,
            "Nothing works.",
            "correct the password in the URL; it is percent-encoded there",
        )
    return Finding(
        "network.server",
        "fail",
        "the server cannot be reached",
        f"{settings.redacted_url}: {type(error).__name__}: {error}",
        "Nothing works; caches give misses.",
        "look at the address, and whether this machine may connect to it",
    )


def _no_redis(settings: Settings, facts: Facts) -> Finding:
    if facts.denied:
        return Finding(
            "network.server",
            "warn",
            "the server tells this user nothing of itself",
            f"refused: {', '.join(facts.denied)}",
            "It cannot be audited.",
            "ask the operator for +info and +command|info",
        )
    return Finding(
        "network.server",
        "fail",
        "what answers is no Redis or Valkey",
        settings.redacted_url,
        "Nothing works.",
        "look at the address",
    )


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda each: FAMILIES.index(each.family))


def check_families(names: Iterable[str]) -> frozenset[str]:
    """Return families, checked.

    Raises:
        ConfigurationError: there is no such one.
    """
    found = frozenset(names)
    unknown = sorted(found - set(FAMILIES))
    if unknown:
        raise ConfigurationError(f"there is no family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    return found
