"""The queue's scripts: each is its own file between ``lua/queue_common.lua`` and
``lua/queue_end.lua``, which all of them need.

All are safe to repeat: a request has a number in its lane, and the queue keeps the outcome of each lane's
last request.
"""

from __future__ import annotations

from tenantkv.ops.scripts import Script, script


def queue_script(name: str) -> Script:
    """Return the script in ``lua/queue_<name>.lua`` with what goes around it."""
    own = f"queue_{name}"
    return script(own, "queue_common", own, "queue_end", repeatable=True)
