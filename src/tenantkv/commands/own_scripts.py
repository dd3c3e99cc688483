"""Scripts of tenantkv's own: they name every key that they use, so they run without the guard.

The guard (`script_guard.py`) is there for scripts that somebody else wrote. Ours take wire names in KEYS,
make no other, and answer with none; what that saves is a tenth of a call.
"""

from __future__ import annotations

from tenantkv.commands.options import locate_script
from tenantkv.commands.rule import Rule


class OwnCommand(bytes):
    """The name of EVAL or EVALSHA as only tenantkv's own code can write it.

    It is told by its type: the word itself, from wherever it comes, still means a guarded script.

    Attributes:
        rule: what stands in the table for it.
    """

    rule: Rule


def _own(word: str, flags: str) -> OwnCommand:
    name = OwnCommand(word.encode())
    name.rule = Rule(word, "namespace", min_args=2, names="own script", flags=flags, locate=locate_script)
    return name


EVAL = _own("EVAL", "wc")
EVALSHA = _own("EVALSHA", "wc")
#: For scripts that do and answer the same when they are run again after their reply was lost.
REPEATABLE_EVAL = _own("EVAL", "wci")
REPEATABLE_EVALSHA = _own("EVALSHA", "wci")
