"""Sessions for Starlette and FastAPI that lie on the server, and not in the cookie.

Starlette's own sessions are signed and readable in the cookie; these are sealed on the server, can be ended
there, and the cookie is a random id.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenantkv.cache import MISS, AsyncCache
from tenantkv.cache.wire import OUTAGE
from tenantkv.contrib.entries import Logged, replace
from tenantkv.contrib.loop_clients import LoopCaches
from tenantkv.errors import ConfigurationError

__all__ = ["TenantSessionMiddleware", "regenerate"]

logger = logging.getLogger("tenantkv.contrib")

_STATE = "tenantkv.session"
_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")


class _Session(dict[str, Any]):
    """What newer Starlettes have; whether it was looked at cannot be known here."""

    accessed = True
    modified = False

    def clear(self) -> None:
        self.modified = True
        super().clear()


def _session_class() -> Any:
    try:
        from starlette.middleware import sessions
    except ImportError:
        # Starlette's own sessions need itsdangerous, which ours do not.
        return _Session
    return getattr(sessions, "Session", _Session)


Session: Any = _session_class()


@dataclass(slots=True)
class _State:
    """What came of looking for a session.

    Attributes:
        sid: the id under which it is on the server, or ``None``.
        stored: what the server has.
        is_away: whether the server did not tell.
        asked: the cookie's id.
        is_new: whether it is to get another id.
    """

    sid: str | None = None
    stored: bytes = b"{}"
    is_away: bool = False
    asked: str | None = None
    is_new: bool = field(default=False)


class TenantSessionMiddleware:
    """``request.session`` on a shared server, in the place of Starlette's ``SessionMiddleware``.

    Values are sealed and bound to their key, which is a keyed hash of the id in the cookie. What changed is
    stored before the answer begins. While the server is away, requests have an empty session that is not
    stored and sets no cookie; clearing it ends the session that was asked for.

    Args:
        app: the application.
        client: a :class:`tenantkv.AsyncTenantRedis` for programs with one event loop; otherwise each loop
            gets one of its own.
        session_cookie: the cookie's name.
        max_age: seconds without a change after which a session ends; ``None`` lets the browser's end end it,
            and the server forget it after 14 days.
        path: see Starlette's, as for `same_site`, `https_only`, `domain` and `partitioned`.
        url: as for `tenantkv.connect`.
        name: of the cache that has the sessions.
        timeout: seconds to wait for the server.
        connect: other arguments of `tenantkv.connect`.

    Raises:
        ConfigurationError: an argument has no meaning.
        KeyringError: there is no keyring, or it cannot be trusted.
    """

    def __init__(
        self,
        app: ASGIApp,
        client: Any = None,
        *,
        session_cookie: str = "session",
        max_age: float | None = 14 * 86_400,
        path: str = "/",
        same_site: Literal["lax", "strict", "none"] = "lax",
        https_only: bool = False,
        domain: str | None = None,
        partitioned: bool = False,
        url: str | None = None,
        name: str = "starlette-sessions",
        timeout: float = 0.5,
        **connect: Any,
    ) -> None:
        if "secret_key" in connect:
            raise ConfigurationError("sessions are sealed with the keyring's keys: leave secret_key out")
        if client is not None and (url is not None or connect):
            raise ConfigurationError("give either a client or how to connect, not both")
        self.app = app
        self._cookie = session_cookie
        self._ttl = 14 * 86_400 if max_age is None else max_age
        flags = [f"path={path}", *([] if max_age is None else [f"Max-Age={int(max_age)}"])]
        flags += ["httponly", f"samesite={same_site}", *(["secure"] if https_only else [])]
        flags += [*([f"domain={domain}"] if domain else []), *(["partitioned"] if partitioned else [])]
        self._flags = "; ".join(flags)
        log = Logged(name)
        settings: dict[str, Any] = {
            **{"seal": True, "hide_names": True, "on_outage": "raise", "codec": "bytes", "jitter": 0.0},
            **{"timeout": timeout, "longest_ttl": max(self._ttl, 300.0), "on_event": log},
        }
        self._caches = LoopCaches(name, settings, client=client, url=url, **connect)

    @property
    def cache(self) -> AsyncCache:
        """The running loop's cache below; its `clear` ends all sessions."""
        return self._caches.here()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        state = await self._open(HTTPConnection(scope))
        scope[_STATE] = state
        scope["session"] = Session(json.loads(state.stored))

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                await self._save(scope["session"], state, MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, send_with_cookie)

    async def _open(self, connection: HTTPConnection) -> _State:
        asked = connection.cookies.get(self._cookie, "")
        if not _ID.match(asked):
            return _State()
        try:
            found = await self.cache.get(asked, MISS)
        except OUTAGE:
            return _State(is_away=True, asked=asked)
        # Only ids that we gave out: one that came from elsewhere may be known to somebody else.
        return _State() if found is MISS else _State(asked, found, asked=asked)

    async def _save(self, session: Any, state: _State, headers: MutableHeaders) -> None:
        if session.accessed:
            headers.add_vary_header("Cookie")
        blob = json.dumps(session, separators=(",", ":")).encode()
        if state.is_away:
            if session.modified and not session:
                await self._end(state.asked)
                self._set_cookie(headers, None)
            return
        if blob == state.stored and not (state.is_new and session):
            return
        if not session:
            await self._end(state.sid)
            self._set_cookie(headers, None)
            return
        cache, sid = self.cache, state.sid
        try:
            if sid is None or state.is_new:
                await self._end(sid)
                sid = secrets.token_urlsafe(32)
                is_done = await cache.set(sid, blob, self._ttl)
            else:
                # Not stored anew: it may have been ended meanwhile.
                is_done = await cache._do(replace(cache._core, sid, blob, self._ttl))
        except OUTAGE:
            return
        # Otherwise there is nothing behind a cookie.
        if is_done:
            self._set_cookie(headers, sid)

    async def _end(self, sid: str | None) -> None:
        if sid is not None:
            try:
                await self.cache.delete(sid)
            except OUTAGE:
                # It is the first thing that the server hears when it is back.
                logger.warning("a session will be ended when the server is back")

    def _set_cookie(self, headers: MutableHeaders, sid: str | None) -> None:
        flags = self._flags
        if sid is None:
            flags = re.sub(r"Max-Age=\d+", "Max-Age=0", flags)
            flags += "; expires=Thu, 01 Jan 1970 00:00:00 GMT"
        headers.append("Set-Cookie", f"{self._cookie}={'null' if sid is None else sid}; {flags}")


def regenerate(connection: HTTPConnection) -> None:
    """Give a request's session another id, and end the one it had: for when somebody logs in.

    Raises:
        ConfigurationError: the application has no `TenantSessionMiddleware`.
    """
    state = connection.scope.get(_STATE)
    if not isinstance(state, _State):
        raise ConfigurationError("there is no TenantSessionMiddleware in front of this application")
    state.is_new = True
