"""The result backend behind ``result_backend = "tenantkv://..."``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import celery
from celery.backends import redis as celery_redis
from kombu.utils.objects import cached_property
from redis.backoff import FullJitterBackoff
from redis.exceptions import RedisError

from tenantkv.contrib.celery import drops
from tenantkv.contrib.celery.chords import ChordScript, read_parts, size_of
from tenantkv.contrib.celery.client import SealingRedis, Valve, as_bytes
from tenantkv.contrib.celery.messages import MessageSealer
from tenantkv.contrib.celery.options import keepalive_probes
from tenantkv.contrib.celery.server import Server, resolve, shown
from tenantkv.errors import ConfigurationError
from tenantkv.transport.retry import SafeRetry

# Not annotated for those who inherit from it.
stock: Any = celery_redis

#: Seconds between looks at results that are waited for, beside the notices that come by pub/sub.
LOOK_EVERY = 5.0
#: Ends the name of a chord's size, sealed; Celery's own counters end in one letter.
SIZE = ".size"
#: Looks in a row without an answer on the subscription after which it counts as dead.
MISSED_AT_MOST = 2


#: What of Celery's Redis backend this package builds on; see `transport.HOOKS`.
HOOKS = (
    *("_chord_part_return_script", "_create_client", "_params_from_url", "_set_chord_key", "apply_chord"),
    *("on_chord_part_return", "set_chord_size"),
)


def check_hooks(module: Any = stock) -> None:
    """Fail if Celery lacks what this package builds on.

    Raises:
        ConfigurationError: it names what is missing.
    """
    missing = [name for name in HOOKS if not hasattr(module.RedisBackend, name)]
    if not hasattr(module, "CHORD_PART_RETURN_LUA"):
        missing.append("CHORD_PART_RETURN_LUA")
    if missing:
        raise ConfigurationError(
            f"celery {celery.__version__} lacks what tenantkv's results build on: {', '.join(missing)}; "
            "install the versions of tenantkv[celery]"
        )


class ResultValve(Valve):
    """Seals results, and opens them; the counters of chords stay numbers.

    Args:
        sealer: seals and opens.
        counters: what the names of groups begin with.
        lifetime: seconds for which a result counts, or ``None``.
    """

    def __init__(self, sealer: MessageSealer, counters: bytes, lifetime: float | None) -> None:
        super().__init__(sealer)
        self._groups = counters
        self._lifetime = lifetime

    def _is_counter(self, name: bytes) -> bool:
        return name.startswith(self._groups) and name[-2:] in (b".s", b".t", b".c")

    def outward(self, words: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a command as it is sent."""
        at = {"SET": 2, "SETEX": 3}.get(words[0])
        if at is None:
            return super().outward(words)
        name = as_bytes(words[1])
        if self._is_counter(name):
            return words
        return (*words[:at], self.sealer.seal(words[at], "value", name), *words[at + 1 :])

    def inward(self, words: Sequence[Any], reply: Any) -> Any:
        """Return a command's reply as its caller expects it."""
        if words[0] == "GET":
            return self._open(reply, as_bytes(words[1]))
        if words[0] == "MGET" and reply:
            return [self._open(each, as_bytes(n)) for each, n in zip(reply, words[1:], strict=True)]
        if words[0] in ("ZRANGE", "LRANGE") and reply:
            is_ordered = words[0] == "ZRANGE"
            parts = read_parts(self.sealer, as_bytes(words[1]), reply, is_ordered=is_ordered)
            return [part.encoded for part in parts]
        return reply

    def _open(self, blob: Any, name: bytes) -> Any:
        if blob is None or self._is_counter(name):
            return blob
        opened = self.sealer.open(as_bytes(blob), "value", name)
        if opened is None:
            return None
        if self._lifetime and opened[1] + self._lifetime < time.time():
            drops.note("stale")
            return None
        return opened[0]


class ResultConsumer(stock.ResultConsumer):
    """Waits for results; it looks for itself when the notices may have stopped."""

    _look_at = 0.0
    _missed = 0

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one notice; each five seconds also look at what is waited for, in a round trip."""
        super().drain_events(timeout)
        now = time.monotonic()
        if now < self._look_at:
            return
        is_first, self._look_at = not self._look_at, now + LOOK_EVERY
        if not is_first and self.subscribed_to:
            self._look()

    def _look(self) -> None:
        """Fetch what is waited for, and test the subscription, whose peer may be gone without a word."""
        with self._locked():
            try:
                names = sorted(self.subscribed_to)
                for meta in filter(None, self.backend.client.mget(names)):
                    self.on_state_change(self._decode_result(meta), None)
                self._test_subscription()
            except (RedisError, OSError):
                # The next read of the subscription meets the same, and reconnects.
                self._missed += 1

    def _test_subscription(self) -> None:
        pubsub = self._pubsub
        connection = getattr(pubsub, "connection", None)
        if connection is None or not pubsub.subscribed:
            return
        self._missed = int(getattr(pubsub, "health_check_response_counter", 0))
        if self._missed >= MISSED_AT_MOST:
            pubsub.health_check_response_counter = self._missed = 0
            connection.disconnect()
            self._reconnect()
            return
        pubsub.ping()
        pubsub.health_check_response_counter = self._missed + 1


def _short_retry() -> SafeRetry:
    """Return a policy for a lost connection; for longer troubles Celery has one of its own above it."""
    return SafeRetry(FullJitterBackoff(cap=0.5, base=0.05), 2)


class Backend(stock.RedisBackend):
    """Celery's Redis backend, on namespaced connections and with sealed results."""

    ResultConsumer = ResultConsumer

    def __init__(self, *args: Any, url: str | None = None, app: Any = None, **kwargs: Any) -> None:
        check_hooks()
        options = dict(app.conf.get("result_backend_transport_options") or {})
        for name in ("identity", "child", "keyring", "namespace", "placement", "seal"):
            broker = app.conf.get("broker_transport_options") or {}
            if name in broker:
                options.setdefault(name, broker[name])
        self._is_sealed = bool(options.get("seal", True))
        self.server: Server = resolve(
            (url or "tenantkv://").split(";"), options, tls=app.conf.get("redis_backend_use_ssl")
        )
        super().__init__(*args, url=url, app=app, **kwargs)

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        # `server` knows better; what is left are time-outs and the like.
        gone = ("host", "port", "db", "password", "username", "connection_class")
        return {k: v for k, v in defaults.items() if k not in gone and not k.startswith("ssl_")}

    def _create_client(self, **params: Any) -> Any:
        kept = {
            name: params[name]
            for name in ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "max_connections")
            if params.get(name) is not None
        }
        pool = self.server.pool(
            **{
                "health_check_interval": params.get("health_check_interval") or 10,
                "socket_keepalive_options": keepalive_probes(),
                "retry": _short_retry(),
                **kept,
            }
        )
        return SealingRedis(connection_pool=pool, valve=self.valve)

    @cached_property
    def valve(self) -> ResultValve:
        """What seals and opens results."""
        sealer = MessageSealer(self.server.namespace, self.server.db, is_sealed=self._is_sealed)
        return ResultValve(sealer, as_bytes(self.group_keyprefix), self.expires or None)

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL as it may be shown."""
        url = self.url or "tenantkv://"
        return url if include_password else shown(url)

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Begin a chord; its size travels in the sealed messages too, as the server may lose it."""
        results = header_result_args[1]
        # No other kinds of lists: the ones that Celery makes of generators are to stay unread.
        if body is not None and type(results) in (list, tuple):
            body["chord_size"] = size_of(results)
        # Celery forgets only behind the first tasks of a frozen chord that it was called before, and what a
        # quick worker has done by then would be taken for something that comes late.
        self.ensure(self.client.delete, (self.get_key_for_group(header_result_args[0], ".c"),))
        super().apply_chord(header_result_args, body, **kwargs)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Note how many parts a chord has: as a counter for the server's script, and sealed."""
        super().set_chord_size(group_id, chord_size)
        self._set_chord_key(self.get_key_for_group(group_id, SIZE), str(chord_size))

    def _sealed_size(self, counter: str | bytes) -> int | None:
        """Return a chord's size from the sealed copy beside its counter."""
        found = self.client.get(as_bytes(counter)[:-2] + SIZE.encode())
        return None if found is None else int(found)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> Any:
        """Note a part's result, and call the chord's body with the last one."""
        self._chord_part_return_script.about(request)
        return super().on_chord_part_return(request, state, result, **kwargs)

    @cached_property
    def _chord_part_return_script(self) -> ChordScript:
        script = self.client.register_script(stock.CHORD_PART_RETURN_LUA)
        return ChordScript(
            script,
            self.client,
            self.valve.sealer,
            is_ordered=bool(self._chord_zset),
            sealed_size=self._sealed_size,
        )
