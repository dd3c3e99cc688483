"""What ``status``, ``top``, ``exporter`` and the listings look at: one client, and what was seen before."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tenantkv.cli import status_brokers
from tenantkv.errors import ConfigurationError, RefusedError
from tenantkv.ops import directory, status_look
from tenantkv.ops.directory import Entry
from tenantkv.ops.effects import Command
from tenantkv.ops.status import Load, Own, QueueState, Snapshot, Trend

# Walking over everybody's keys to count one's own is not done by itself when there are more.
_FEW_KEYS = 200_000
_SAMPLE = 200
_LONGEST_STATE = 1024 * 1024


class Source:
    """Looks at a tenant's part of a server, again and again.

    Args:
        client: the tenant's.
        queues: names of queues to look at besides those that the directory lists.
        pings: how many to send for the latency.
        usage: whether to count own keys: ``True``, ``False``, or ``None``: where it is cheap.
        names_every: seconds for which the list of names is kept.
        usage_every: the same for the count of own keys.
    """

    def __init__(
        self,
        client: Any,
        *,
        queues: Iterable[str] = (),
        pings: int = 20,
        usage: bool | None = None,
        names_every: float = 30.0,
        usage_every: float = 60.0,
    ) -> None:
        self.client = client
        self._queues = tuple(queues)
        self._pings = pings
        self._usage = usage
        self._names_every, self._usage_every = names_every, usage_every
        self._entries: list[Entry] = []
        self._names_until = self._usage_until = 0.0
        self._own: Own | None = None
        self._own_note = ""

    def look(self) -> Snapshot:
        """Return how things are. Some round trips, and `pings`; changes nothing on the server.

        Raises:
            redis.exceptions.RedisError: the server cannot be reached.
        """
        client, namespace = self.client, self.client.namespace
        taken = self._ping()
        load = self._load()
        entries = self.entries()
        queues = client.run(status_look.queues(namespace, self.queue_names(entries)))
        locks = client.run(status_look.locks(namespace, entries))
        # Neither works on a Cluster.
        brokers = () if self._is_cluster else status_brokers.look(client, self._database)
        own, note = self._measure(load)
        return Snapshot(time.time(), status_look.latency_of(taken), load, own, note, queues, locks, brokers)

    def refresh(self) -> None:
        """Read the names anew and count own keys, so that the next looks need not."""
        self._names_until = 0.0
        self.entries()
        if self._usage is not False:
            self._own, self._own_note = self.measure(self._load())
            self._usage_until = time.monotonic() + self._usage_every

    def entries(self) -> list[Entry]:
        """Return what the directory lists, read anew now and then."""
        now = time.monotonic()
        if now >= self._names_until:
            client = self.client
            self._entries = client.run(directory.entries(client.namespace, client.sealer, time.time()))
            self._names_until = now + self._names_every
        return self._entries

    def queue_names(self, entries: Iterable[Entry]) -> list[str]:
        """Return the names of queues, those that were given first."""
        listed = [entry.name.decode("utf-8", "replace") for entry in entries if entry.primitive == "queue"]
        return list(dict.fromkeys([*self._queues, *listed]))

    def queues(self) -> tuple[QueueState, ...]:
        """Return the queues alone."""
        names = self.queue_names(self.entries())
        found: tuple[QueueState, ...] = self.client.run(status_look.queues(self.client.namespace, names))
        return found

    @property
    def _database(self) -> int:
        options = getattr(getattr(self.client, "connection_pool", None), "connection_kwargs", {})
        return int(options.get("db") or 0)

    def _ping(self) -> list[float]:
        taken = []
        if self._pings:
            # The first one may have to connect.
            self._send_ping()
        for _ in range(self._pings):
            started = time.perf_counter()
            self._send_ping()
            taken.append(time.perf_counter() - started)
        return taken

    @property
    def _is_cluster(self) -> bool:
        return hasattr(self.client, "get_primaries")

    def _send_ping(self) -> None:
        if self._is_cluster:
            self.client.ping(target_nodes=self.client.get_random_node())
        else:
            self.client.run(_one(("PING",)))

    def _load(self) -> Load:
        if not self._is_cluster:
            load: Load = self.client.run(status_look.server(self._database))
            return load
        found = []
        for node in self.client.get_primaries():
            info = self.client.info(target_nodes=node)
            # redis-py has read it already.
            fields = {name: str(value) for name, value in info.items()}
            fields["db0"] = f"keys={info.get('db0', {}).get('keys', 0)}"
            found.append(status_look.load_of(fields, 0))
        return status_look.merged(found)

    def _measure(self, load: Load) -> tuple[Own | None, str]:
        if self._usage is False:
            return None, "not asked for"
        now = time.monotonic()
        if now < self._usage_until:
            return self._own, self._own_note
        self._usage_until = now + self._usage_every
        self._own, self._own_note = self.measure(load)
        return self._own, self._own_note

    def measure(self, load: Load) -> tuple[Own | None, str]:
        """Count own keys and their memory, and say why not if that cannot be done."""
        if self._usage is None and load.keys > _FEW_KEYS and not self._is_indexed:
            return None, f"the server has {load.keys} keys of all tenants; --usage walks over them"
        try:
            found = self.client.namespace_usage(sample=_SAMPLE)
        except (RefusedError, AttributeError) as error:
            return None, str(error)
        except RedisError as error:
            return None, f"the server: {error}"
        return Own(found.keys, found.bytes, found.immortal, found.source, found.measured), ""

    @property
    def _is_indexed(self) -> bool:
        # Where there is a SCAN it is used rather than the registry.
        pool = getattr(self.client, "connection_pool", None)
        return bool(getattr(pool, "lacks_scan", False))


def _one(words: tuple[str, ...]) -> Any:
    reply = yield Command(words)
    return reply


class StateFile:
    """What a look found, kept for the next run of a program that monitors.

    Args:
        path: the file; made with mode 0600.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def load(self) -> tuple[Snapshot | None, Trend]:
        """Return the last look and the trend; nothing of a file that is missing or damaged."""
        try:
            if self.path.stat().st_size > _LONGEST_STATE:
                return None, Trend()
            raw = json.loads(self.path.read_text())
            load = Load(**raw["load"])
            depths = {str(name): [int(each) for each in value] for name, value in raw["depths"].items()}
            queues = tuple(QueueState(name, True, ready=each[-1]) for name, each in depths.items() if each)
            seen = Snapshot(float(raw["time"]), status_look.latency_of([]), load, queues=queues)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None, Trend()
        return seen, Trend(depths)

    def save(self, seen: Snapshot, trend: Trend) -> None:
        """Keep a look, whole or not at all.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        text = json.dumps({"time": seen.time, "load": asdict(seen.load), "depths": trend.depths})
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".status-", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(text)
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise ConfigurationError(f"cannot write {self.path}: {error.strerror}") from None


def known_queues(found: Sequence[QueueState]) -> str:
    """Return the names of queues for a message, or that there are none."""
    return ", ".join(queue.name for queue in found if queue.exists) or "none"
