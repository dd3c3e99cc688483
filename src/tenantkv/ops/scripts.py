"""The scripts in ``lua/``: one operation a file, each with a catalogue of its keys and arguments on top.

Laws of this file: a script lists every key that it touches, and makes none up; it is called by its
digest, and sent whole only to a server that does not have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tenantkv.commands.own_scripts import EVAL, EVALSHA, REPEATABLE_EVAL, REPEATABLE_EVALSHA

Argument = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script of tenantkv's own; see `of`.

    Attributes:
        name: its file's, without the suffix.
        body: what the server runs.
        sha: the digest under which the server keeps it.
        repeatable: whether running it again after a lost reply does and answers the same.
    """

    name: str
    body: bytes
    sha: bytes
    repeatable: bool

    @classmethod
    def of(cls, name: str, *parts: bytes, repeatable: bool) -> Script:
        """Return the script of that name which consists of `parts`, one after the other."""
        body = b"\n".join(parts)
        # The server's own choice of digest.
        sha = hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()
        return cls(name, body, sha, repeatable)


@cache
def script(name: str, *parts: str, repeatable: bool = False) -> Script:
    """Return the script in ``lua/<name>.lua``, or what several files there make together.

    Args:
        name: the script's.
        parts: names of the files, if it is not one of its own name.
        repeatable: see `Script`.
    """
    # Here, as it takes as long to import as a tenth of all the rest.
    from importlib.resources import files

    lua = files("tenantkv.ops").joinpath("lua")
    bodies = [lua.joinpath(f"{part}.lua").read_bytes() for part in parts or (name,)]
    return Script.of(name, *bodies, repeatable=repeatable)


# Not frozen: one is made for each command, and that would take three times as long.
@dataclass(slots=True)
class Call:
    """One call of a script: an effect of its own, or one of a `Batch`'s commands.

    Sent back: the raw reply. The driver sends the script whole where the server does not have it.

    Args:
        script: the script.
        keys: own names, all that the script touches; in a Cluster they share a slot.
        arguments: what it gets besides.
    """

    script: Script
    keys: Sequence[str | bytes]
    arguments: Sequence[Argument] = ()

    @property
    def by_digest(self) -> tuple[Any, ...]:
        """The command that names the script."""
        name = REPEATABLE_EVALSHA if self.script.repeatable else EVALSHA
        return name, self.script.sha, len(self.keys), *self.keys, *self.arguments

    @property
    def whole(self) -> tuple[Any, ...]:
        """The command that brings the script along."""
        name = REPEATABLE_EVAL if self.script.repeatable else EVAL
        return name, self.script.body, len(self.keys), *self.keys, *self.arguments
