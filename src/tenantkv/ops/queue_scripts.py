"""The queue's scripts: each is its own file between ``lua/queue_common.lua`` and
``lua/queue_end.lua``, which all of them need.

All are safe to repeat: a request has a number in its lane, and the queue keeps the outcome of each lane's
last request.
"""

from __future__ import annotations

import hashlib
from functools import cache

from tenantkv.ops.scripts import Script, script


@cache
def queue_script(name: str) -> Script:
    """Return the script in ``lua/queue_<name>.lua`` with what goes around it."""
    body = b"\n".join(script(part).body for part in ("queue_common", f"queue_{name}", "queue_end"))
    # The server's own choice of digest.
    sha = hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()
    return Script(f"queue_{name}", body, sha, repeatable=True)
