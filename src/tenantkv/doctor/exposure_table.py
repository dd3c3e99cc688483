"""What a neighbour can see or do through commands that a server offers to everybody, in plain words.

The audit asks which of these exist (``COMMAND INFO``) and never runs one of them to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``content``: values, and names with them. ``names``: names, and so values that are in clear. ``logs``:
#: names by chance. ``messages``: channels. ``service``: whether the server serves.
Reach = Literal["content", "names", "logs", "messages", "service"]


@dataclass(frozen=True, slots=True)
class Exposure:
    """One row.

    Attributes:
        check: the finding's name.
        reach: what is reached.
        commands: any of these.
        title: what a neighbour can do.
        in_clear: what that means where values are readable.
        protected: what it means where values are sealed or names hidden, as far as they are.
    """

    check: str
    reach: Reach
    commands: tuple[str, ...]
    title: str
    in_clear: str
    protected: str


EXPOSURES: tuple[Exposure, ...] = (
    Exposure(
        "exposure.copies",
        "content",
        ("SYNC", "PSYNC"),
        "neighbours can copy the whole database",
        "Whoever can connect can have all names and values of all tenants, and every write as it happens.",
        "Neighbours can copy your sealed values and cannot open them; names that are not hidden they can read.",
    ),
    Exposure(
        "exposure.monitor",
        "content",
        ("MONITOR",),
        "neighbours can watch every command",
        "Whoever can connect can watch your commands with names and values as they are sent.",
        "Neighbours can watch your commands; sealed values they cannot open, plain names they can read.",
    ),
    Exposure(
        "exposure.names",
        "names",
        ("KEYS", "SCAN", "RANDOMKEY", "HOTKEYS"),
        "neighbours can list the names of all keys",
        "Whoever can connect can list your names with the prefix, and then read, change and delete your keys.",
        "Neighbours can list your names, and delete keys; they cannot read or forge what is sealed.",
    ),
    Exposure(
        "exposure.users",
        "names",
        ("ACL",),
        "neighbours may change the server's users",
        "Whoever may change users can lock everybody out, and learn names from what is then refused.",
        "Whoever may change users can lock everybody out; of what is refused the log shows names.",
    ),
    Exposure(
        "exposure.tracking",
        "names",
        ("CLIENT",),
        "neighbours can list and end connections",
        "Addresses and commands of all clients are visible, names of changed keys can be had, and connections "
        "can be closed or paused.",
        "Connections can be listed, closed and paused, and names of changed keys can be had.",
    ),
    Exposure(
        "exposure.logs",
        "logs",
        ("SLOWLOG", "COMMANDLOG", "LATENCY"),
        "neighbours can read the server's logs of slow and large commands",
        "A command of yours that is slow (10 ms) or large (1 MB) shows its name and the beginning of its value.",
        "A slow or large command of yours shows its key's name, hidden or not as it is.",
    ),
    Exposure(
        "exposure.channels",
        "messages",
        ("PUBSUB", "PSUBSCRIBE"),
        "neighbours can list channels and listen to them",
        "Messages that you publish can be read and forged by everybody. The names of your channels tell "
        "nothing of your keys, as their prefix is another one.",
        "",
    ),
    Exposure(
        "exposure.service",
        "service",
        (
            *("FLUSHALL", "FLUSHDB", "SWAPDB", "SHUTDOWN", "DEBUG", "REPLICAOF", "SLAVEOF", "FAILOVER"),
            *("CONFIG", "MODULE", "SAVE", "BGSAVE", "MIGRATE"),
        ),
        "neighbours can stop, empty or reshape the server",
        "Everything that you store can be gone at any moment, by somebody's mistake too.",
        "",
    ),
    Exposure(
        "exposure.scripts",
        "service",
        ("EVAL", "EVALSHA", "FUNCTION", "FCALL", "SCRIPT"),
        "neighbours can run scripts",
        "A script that does not end holds everybody up, and scripts can be dropped from the server's memory at "
        "any time. tenantkv needs scripts itself, and sends them again when they are gone.",
        "",
    ),
)

#: What tenantkv needs, and for what.
NEEDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("keys", ("GET", "SET", "MGET", "DEL", "UNLINK", "EXISTS", "PEXPIRE", "PTTL", "TYPE")),
    ("locks and rate limits", ("EVAL", "EVALSHA", "BLPOP", "TIME")),
    ("queues", ("EVAL", "EVALSHA", "BLPOP", "HSCAN", "ZADD", "TIME")),
    ("caches", ("EVAL", "EVALSHA", "MGET", "SET", "XADD")),
    ("transactions", ("MULTI", "EXEC", "WATCH")),
    ("the registry", ("ZADD", "ZRANGE", "ZREM", "EVAL", "EVALSHA")),
)

#: Every command that the audit asks about.
ASKED: tuple[str, ...] = tuple(
    dict.fromkeys(
        [name for row in EXPOSURES for name in row.commands]
        + [name for _, names in NEEDS for name in names]
        + ["SCAN", "MEMORY", "OBJECT", "INFO", "PING", "PUBLISH", "XREAD", "RESTORE", "DUMP"]
    )
)
