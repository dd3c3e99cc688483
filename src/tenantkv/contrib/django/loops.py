"""Which event loops are worth connections of their own.

Under ASGI there is one loop for as long as the process lives; under WSGI Django runs each asynchronous view
in a loop of its own. To open a connection for such a one costs more than what it is for, so the first calls
of each loop go through a thread and the connections that threads share, as Django's own backends do it with
all calls.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from tenantkv.contrib.loop_states import LoopStates, State

#: Calls after which a loop is worth connections of its own.
YOUTH = 8


class Loops(LoopStates[State]):
    """`LoopStates` that counts the calls in each loop. Threads may share it.

    Args:
        make: see `LoopStates`.
    """

    def __init__(self, make: object) -> None:
        super().__init__(make)
        self._calls: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()

    def is_young(self) -> bool:
        """Count a call in the running loop, and say whether it is one of the first there."""
        if self.is_here():
            return False
        loop = asyncio.get_running_loop()
        calls = self._calls.get(loop, 0)
        if calls >= YOUTH:
            return False
        self._calls[loop] = calls + 1
        return True
