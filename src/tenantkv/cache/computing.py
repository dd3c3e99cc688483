"""`get_or_compute`, for both worlds: who computes, who waits, and who is served what is there.

Of all callers in all processes one computes: in a process by a flight, between processes by a lease.
Whoever has an older value is served that rather than made to wait.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from tenantkv.cache.core import Core, Found
from tenantkv.cache.driving import COMPUTE, Steps, Wait
from tenantkv.cache.sentinels import MISS
from tenantkv.cache.steps import Key
from tenantkv.cache.values import CodecName
from tenantkv.cache.wire import OUTAGE
from tenantkv.errors import PlaintextRefusedError, RefusedError
from tenantkv.ops import cache_lease as ops
from tenantkv.ops.cache import Draft
from tenantkv.ops.cache_entry import Lifetime
from tenantkv.ops.cache_lease import Claim

REFUSAL_OR_OUTAGE = (*OUTAGE, ResponseError)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an entry is made: what `get_or_compute` was asked for, but for the function."""

    key: Key
    name: bytes
    ttl: float | None = None
    stale: float | None = None
    negative: float | None = None
    tags: tuple[bytes, ...] = ()
    codec: CodecName | None = None
    plaintext_ok: str | None = None


def resolve(core: Core, recipe: Recipe, held: Found | None) -> Steps[Any]:
    """Return a value that is there by now, or compute it; `held` is an older one, if there is one."""
    while True:
        flight, leads = core.flights.enter(recipe.name)
        if leads:
            break
        if held is not None:
            return held.value
        core.stats.count("waited")
        yield Wait(flight)
        if flight.is_done:
            return flight.outcome()
        # Its leader was cancelled: somebody else's turn.
    try:
        flight.value = yield from _lead(core, recipe, held)
        flight.is_done = True
        return flight.value
    except Exception as error:
        flight.error = error
        flight.is_done = True
        raise
    finally:
        core.flights.leave(recipe.name, flight)


def _lead(core: Core, recipe: Recipe, held: Found | None) -> Steps[Any]:
    token = os.urandom(16)
    try:
        claimed = yield from _claim(core, recipe, held, token)
    except OUTAGE as error:
        core.outage(error)
        if held is not None:
            return held.value
        kept = core.kept(recipe.name)
        if kept is not MISS:
            return kept
        core.stats.count("computed")
        return (yield COMPUTE)
    except ResponseError:
        # The server takes no writes (out of memory, say): as if it were not there to be written to.
        core.stats.count("unavailable")
        if held is not None:
            return held.value
        core.stats.count("computed")
        return (yield COMPUTE)
    newer = _newer(core, claimed, held)
    if newer is not None:
        if claimed.is_mine:
            yield from _release(core, recipe, token)
        return newer.value
    if not claimed.is_mine and held is not None:
        return held.value
    return (yield from _compute(core, recipe, held, claimed, token))


def _claim(core: Core, recipe: Recipe, held: Found | None, token: bytes) -> Steps[Claim]:
    """Ask for the lease; without anything to serve meanwhile, wait for whoever has it."""
    settings = core.settings
    lease_ms = int(settings.lease * 1000)
    claimed: Claim = yield ops.claim(core.shelf, recipe.name, recipe.tags, token, lease_ms, core.clock())
    core.note_tampered()
    if claimed.is_mine or held is not None or _newer(core, claimed, held) is not None:
        return claimed
    core.stats.count("waited")
    patience = settings.lease if settings.wait is None else settings.wait
    awaited: Claim = yield ops.await_other(
        core.shelf, recipe.name, recipe.tags, token, lease_ms, core.clock, patience
    )
    core.note_tampered()
    return awaited


def _newer(core: Core, claimed: Claim, held: Found | None) -> Found | None:
    """Return what was stored since the caller looked."""
    entry = claimed.entry
    if entry is None or not core.is_fresh(entry):
        return None
    if held is not None and entry.fresh_ms == held.entry.fresh_ms:
        return None
    return core.found(entry)


def _compute(core: Core, recipe: Recipe, held: Found | None, claimed: Claim, token: bytes) -> Steps[Any]:
    started = time.monotonic()
    try:
        value = yield COMPUTE
    except BaseException as error:
        if claimed.is_mine and not isinstance(error, GeneratorExit):
            yield from _release(core, recipe, token)
        if held is None or not isinstance(error, Exception):
            raise
        core.stats.count("failed_refreshes")
        return held.value
    core.stats.count("computed")
    if held is not None and core.is_fresh(held.entry):
        core.stats.count("early")
    if not claimed.is_mine:
        return value
    try:
        draft = draft_of(core, recipe, value, time.monotonic() - started)
    except BaseException:
        yield from _release(core, recipe, token)
        raise
    if draft is None:
        yield from _release(core, recipe, token)
    else:
        yield from _store(core, draft, claimed, token)
    return value


def draft_of(core: Core, recipe: Recipe, value: Any, delta: float) -> Draft | None:
    """Return what to store for a result, or ``None`` for one that is not stored."""
    negative = core.settings.negative if recipe.negative is None else recipe.negative
    is_negative = value is MISS or (value is None and negative is not None)
    if value is MISS and negative is None:
        return None
    if is_negative:
        lifetime: Lifetime = core.lifetime(negative, 0.0)
    else:
        lifetime = core.lifetime(recipe.ttl, recipe.stale)
    try:
        return core.draft(
            recipe.key,
            recipe.name,
            value,
            lifetime,
            tags=recipe.tags,
            codec=recipe.codec,
            delta=delta,
            is_negative=is_negative,
            plaintext_ok=recipe.plaintext_ok,
        )
    except PlaintextRefusedError:
        raise
    except RefusedError:
        # Too large to keep, but the caller has what he asked for; counted.
        return None


def _store(core: Core, draft: Draft, claimed: Claim, token: bytes) -> Steps[None]:
    core.forget([draft.name])
    try:
        is_stored = yield ops.store(core.shelf, draft, claimed, token, core.clock())
    except REFUSAL_OR_OUTAGE:
        # The caller asked for a value, and there it is.
        core.stats.count("unavailable")
        return
    core.stats.count("written" if is_stored else "superseded")
    if is_stored:
        core.stats.count("bytes_written", len(draft.payload))


def _release(core: Core, recipe: Recipe, token: bytes) -> Steps[None]:
    try:
        yield ops.release(core.shelf, recipe.name, token)
    except REFUSAL_OR_OUTAGE:
        # It ends by itself.
        pass
