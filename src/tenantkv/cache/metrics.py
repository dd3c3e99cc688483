"""A cache's counters for Prometheus and OpenTelemetry: read when asked for, so that a hit pays nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

from tenantkv.cache.shared import SharedCache
from tenantkv.cache.stats import COUNTERS


class PrometheusCollector:
    """A collector for ``prometheus_client``'s registry: ``REGISTRY.register(PrometheusCollector(cache))``.

    Every counter becomes ``tenantkv_cache_<counter>_total`` with the label ``cache``, the read latency the
    histogram ``tenantkv_cache_read_seconds``.

    Args:
        caches: whose counters; names of caches are told to whoever reads the metrics.
    """

    def __init__(self, *caches: SharedCache) -> None:
        self._caches = caches

    def describe(self) -> Iterable[Any]:
        """Return nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield the metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        for name, help_text in COUNTERS.items():
            family = CounterMetricFamily(f"tenantkv_cache_{name}", help_text, labels=["cache"])
            for cache in self._caches:
                family.add_metric([cache.name], getattr(cache.stats, name))
            yield family
        latency = HistogramMetricFamily("tenantkv_cache_read_seconds", "reads by latency", labels=["cache"])
        for cache in self._caches:
            latency.add_metric([cache.name], list(_cumulative(cache)), cache.stats.latency_sum)
        yield latency


def _cumulative(cache: SharedCache) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in cache.stats.snapshot()["latency"].items():
        total += count
        yield ("+Inf" if bound == float("inf") else f"{bound:g}"), total


def observe(meter: Any, *caches: SharedCache) -> list[Any]:
    """Have an OpenTelemetry meter read the counters of caches; returns the instruments.

    Args:
        meter: from ``opentelemetry.metrics.get_meter(...)``.
        caches: whose counters, as ``tenantkv.cache.<counter>`` with the attribute ``cache``.
    """
    return [
        meter.create_observable_counter(
            f"tenantkv.cache.{name}", callbacks=[_callback(name, caches)], description=help_text
        )
        for name, help_text in COUNTERS.items()
    ]


def _callback(name: str, caches: Iterable[SharedCache]) -> Callable[[Any], Iterable[Any]]:
    def read(_options: Any) -> Iterable[Any]:
        observation = import_module("opentelemetry.metrics").Observation
        return [observation(getattr(cache.stats, name), {"cache": cache.name}) for cache in caches]

    return read
