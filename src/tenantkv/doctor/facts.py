"""What there is to know about a server: asked once, and then judged without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tenantkv.doctor.exposure_table import ASKED
from tenantkv.ops.status_info import read_info

_ENTRIES = 128
_PINGS = 20
# Seconds.
_LISTENS = 0.3
_SETTINGS = ("timeout", "notify-keyspace-events", "appendonly", "save")


class Server(Protocol):
    """What is asked."""

    def ask(self, *words: str) -> Any:
        """Return the reply of a read-only command, or the server's error."""
        ...

    def pings(self, count: int) -> list[float]:
        """Return how long so many PINGs took, in seconds."""
        ...

    def listen(self, seconds: float) -> list[bytes] | None:
        """Return the channels of what is announced of changed keys, or ``None`` if that is refused."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself.

    Attributes:
        info: INFO's fields.
        commands: whether each command of `exposure_table.ASKED` exists; empty if the server does not say.
        user: who we are to the server; empty if it does not say.
        denied: commands that the server's ACL refused to us.
        logs: replies in which a name of ours may stand, by where they came from; never shown.
        settings: of CONFIG, where that is offered.
        pings: seconds, one for each.
        heard: channels on which changed keys were announced while the audit listened; ``None`` if it did
            not; never shown.
    """

    info: Mapping[str, str]
    commands: Mapping[str, bool]
    user: str = ""
    denied: tuple[str, ...] = ()
    logs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    pings: tuple[float, ...] = ()
    heard: tuple[bytes, ...] | None = field(default=None, repr=False)

    def has(self, command: str) -> bool:
        """Whether a command exists; what the server does not tell counts as not."""
        return self.commands.get(command, False)

    @property
    def product(self) -> str:
        """``redis`` or ``valkey``."""
        return "valkey" if "valkey_version" in self.info else "redis"

    @property
    def version(self) -> str:
        """The product's own; Valkey also gives the one of Redis that it replaces."""
        return self.info.get(f"{self.product}_version", "")

    @property
    def is_restricted(self) -> bool:
        """Whether the server tells its users apart, as far as one user can see."""
        return bool(self.denied) or self.user not in ("", "default")

    def number(self, name: str) -> int | None:
        """Return a field of INFO as a number."""
        text = self.info.get(name, "")
        return int(text) if text.isdigit() else None


def gather(server: Server) -> Facts:
    """Ask a server; nothing is changed and no key is named.

    About ten round trips, twenty PINGs and a third of a second of listening.

    Raises:
        redis.exceptions.RedisError: it went away in between.
    """
    denied: list[str] = []

    def ask(*words: str) -> Any:
        reply = server.ask(*words)
        if isinstance(reply, Exception):
            if str(reply).startswith("NOPERM") or type(reply).__name__ == "NoPermissionError":
                denied.append(" ".join(words[:2] if words[0] in _FAMILIES else words[:1]))
            return None
        return reply

    pings = tuple(server.pings(_PINGS))
    info = read_info(ask("INFO", "everything") or ask("INFO") or b"")
    rows = ask("COMMAND", "INFO", *ASKED)
    commands = {} if rows is None else {name: bool(row) for name, row in zip(ASKED, rows, strict=False)}
    asked: list[tuple[str, tuple[str, ...]]] = [
        ("PUBSUB", ("PUBSUB", "CHANNELS")),
        ("PUBSUB", ("PUBSUB", "SHARDCHANNELS")),
        ("PUBSUB", ("PUBSUB", "NUMPAT")),
        ("SLOWLOG", ("SLOWLOG", "GET", str(_ENTRIES))),
        *[("COMMANDLOG", ("COMMANDLOG", "GET", str(_ENTRIES), kind)) for kind in _LOGS],
        ("ACL", ("ACL", "LOG", str(_ENTRIES))),
        ("FUNCTION", ("FUNCTION", "LIST", "WITHCODE")),
    ]
    logs = {
        " ".join(word for word in words if not word.isdigit()): reply
        for command, words in asked
        if commands.get(command) and (reply := ask(*words)) is not None
    }
    user = ask("ACL", "WHOAMI") if commands.get("ACL") else None
    settings: dict[str, str] = {}
    if commands.get("CONFIG"):
        for name in _SETTINGS:
            reply = ask("CONFIG", "GET", name)
            if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
                settings[name] = reply[1].decode("utf-8", "replace")
    # Last, since the connection only listens from then on.
    heard = server.listen(_LISTENS) if commands.get("PSUBSCRIBE") else None
    return Facts(
        info=info,
        commands=commands,
        user=user.decode("utf-8", "replace") if isinstance(user, bytes) else "",
        denied=tuple(dict.fromkeys(denied)),
        logs=logs,
        settings=settings,
        pings=pings,
        heard=None if heard is None else tuple(heard),
    )


_FAMILIES = frozenset({"ACL", "COMMAND", "COMMANDLOG", "CONFIG", "FUNCTION", "PUBSUB", "SLOWLOG"})
_LOGS = ("slow", "large-request", "large-reply")
