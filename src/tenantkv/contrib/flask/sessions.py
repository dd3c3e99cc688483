"""Sessions for Flask-Session: sealed, under hidden names, and none the poorer for an outage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask, Request, Response
from flask_session.base import ServerSideSession, ServerSideSessionInterface
from flask_session.defaults import Defaults

from tenantkv.cache import MISS, Cache
from tenantkv.cache.wire import OUTAGE
from tenantkv.contrib.entries import Logged, replace, timed
from tenantkv.contrib.flask.extension import given_client, tenant_of

_Interface: Any = ServerSideSessionInterface

# A session that nobody changed gets its whole lifetime anew once this share of it is over, and not with
# each request: that would take two round trips more.
_TOUCH_AFTER = 0.05


class _Away(Exception):
    """The server did not tell whether there is such a session."""


class _Loaded(dict[str, Any]):
    """What the server has of a session, and of what it was made."""

    def __init__(self, data: dict[str, Any], place: str, blob: bytes, left: float) -> None:
        super().__init__(data)
        self.stored = (place, blob)
        self.left = left


class TenantSession(ServerSideSession):
    """A session.

    Attributes:
        stored: where and what the server has of it, or ``None``.
        left: seconds until the server forgets it.
        away: the place of a session that could not be read, as the server was away; this one stands in.
    """

    stored: tuple[str, bytes] | None = None
    left: float = 0.0
    away: str | None = None

    def __init__(
        self, initial: dict[str, Any] | None = None, sid: str | None = None, permanent: bool | None = None
    ) -> None:
        super().__init__(initial, sid, permanent)
        if isinstance(initial, _Loaded):
            self.stored, self.left = initial.stored, initial.left


class TenantSessions(_Interface):
    """Flask-Session's interface on a shared server: ``app.session_interface = TenantSessions(app)``.

    Values are sealed and bound to their key; the key is a keyed hash, so that no session's id is ever seen
    on the server. What a neighbour writes, moves or damages is no session.

    While the server is away, requests have an empty session that is not stored and sets no cookie, so that
    everybody is who he was when the server is back. Clearing it ends the session that was asked for.

    Args:
        app: the application; its ``SESSION_*`` settings are Flask-Session's.
        client: a :class:`tenantkv.TenantRedis`; otherwise ``SESSION_REDIS`` if that is set, or the
            extension's.
        name: of the cache that has the sessions.
        timeout: seconds to wait for the server.
        settings: others of `tenantkv.cache.Cache`: ``largest_bytes``, ``longest_ttl`` ...
    """

    session_class = TenantSession
    ttl = True

    def __init__(
        self,
        app: Flask,
        client: Any = None,
        *,
        name: str = "flask-sessions",
        timeout: float = 0.5,
        **settings: Any,
    ) -> None:
        config = app.config

        def said(setting: str) -> Any:
            return config.get(setting, getattr(Defaults, setting))

        super().__init__(
            app,
            said("SESSION_KEY_PREFIX"),
            said("SESSION_USE_SIGNER"),
            said("SESSION_PERMANENT"),
            said("SESSION_ID_LENGTH"),
            said("SESSION_SERIALIZATION_FORMAT"),
        )
        if client is None and said("SESSION_REDIS") is not None:
            client = given_client("SESSION_REDIS", said("SESSION_REDIS"))
        # A lifetime that the application chose is not cut.
        longest = max(400 * 86_400.0, app.permanent_session_lifetime.total_seconds())
        usual: dict[str, Any] = {"longest_ttl": longest, "jitter": 0.0}
        fixed: dict[str, Any] = {"seal": True, "hide_names": True, "on_outage": "raise", "codec": "bytes"}
        #: The cache below; its `clear` ends all sessions.
        self.cache = Cache(
            tenant_of(app).kv if client is None else client,
            name,
            timeout=timeout,
            on_event=Logged(name),
            **{**usual, **settings, **fixed},
        )

    # What Flask calls

    def open_session(self, app: Flask, request: Request) -> TenantSession:
        """Return the session of a request; a new one where there is none, or none to be had."""
        session: TenantSession
        try:
            session = super().open_session(app, request)
        except _Away as error:
            # With an id of its own: one that nobody vouches for may be somebody else's choice.
            session = self.session_class(sid=self._generate_sid(self.sid_length), permanent=self.permanent)
            session.away = str(error)
            session.modified = False
            return session
        return session

    def save_session(self, app: Flask, session: TenantSession, response: Response) -> None:
        """Store a session that has changed, or has used up a part of its lifetime."""
        if session.away is not None:
            self._leave(app, session, response)
            return
        try:
            super().save_session(app, session, response)
        except OUTAGE:
            # The cache has counted and logged it, and remembers what is to be deleted. A new session gets no
            # cookie, as there is nothing behind it.
            pass

    def _leave(self, app: Flask, session: TenantSession, response: Response) -> None:
        if session.accessed:
            response.vary.add("Cookie")
        if session.away is not None and session.modified and not session:
            self._try_delete(session.away)
            response.delete_cookie(
                key=self.get_cookie_name(app),
                domain=self.get_cookie_domain(app),
                path=self.get_cookie_path(app),
            )

    def _try_delete(self, store_id: str) -> None:
        try:
            self.cache.delete(store_id)
        except OUTAGE:
            # It is the first thing that the server hears when it is back.
            pass

    # What Flask-Session calls

    def _retrieve_session_data(self, store_id: str) -> dict[str, Any] | None:
        try:
            found = self.cache._do(timed(self.cache._core, store_id))
        except OUTAGE:
            raise _Away(store_id) from None
        if found.value is MISS:
            return None
        try:
            data = self.serializer.decode(found.value)
        except Exception:
            # Of another format, as after SESSION_SERIALIZATION_FORMAT has changed.
            return None
        return _Loaded(data, store_id, found.value, found.ttl) if isinstance(data, dict) else None

    def _delete_session(self, store_id: str) -> None:
        self._try_delete(store_id)

    def _upsert_session(self, session_lifetime: timedelta, session: TenantSession, store_id: str) -> None:
        lifetime = session_lifetime.total_seconds()
        blob = self.serializer.encode(session)
        place, stored = session.stored or (None, b"")
        # What is there is replaced or prolonged, not stored anew: it may have been ended meanwhile.
        if place != store_id:
            self.cache.set(store_id, blob, lifetime)
        elif stored != blob:
            self.cache._do(replace(self.cache._core, store_id, blob, lifetime))
        elif session.left < lifetime * (1 - _TOUCH_AFTER):
            self.cache.touch(store_id, lifetime)
