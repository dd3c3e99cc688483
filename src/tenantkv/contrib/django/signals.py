"""Signals of `TenantCache`; receivers must be quick, and what they raise is logged.

Both have the keyword arguments ``name`` (the cache's) and ``count`` (since the last signal).
"""

from __future__ import annotations

from django.dispatch import Signal

#: The server was not there, and calls were answered as misses. At most one in ten seconds.
cache_unavailable = Signal()

#: Values were found that this tenant did not write, and counted as misses. At most one in ten seconds.
value_rejected = Signal()
