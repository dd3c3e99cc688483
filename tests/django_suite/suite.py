"""Django's test classes, re-pointed at our backend. Imported by `run` when Django is set up."""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import Any
from unittest import mock

import cache.tests as ct  # type: ignore[import-not-found]
import sessions_tests.tests as st  # type: ignore[import-not-found]
import template_tests.syntax_tests.test_cache as tt  # type: ignore[import-not-found]
from asgiref.sync import async_to_sync
from django.core.cache import cache, caches
from django.test import TestCase, override_settings

from tenantkv.contrib.django import loops
from tenantkv.contrib.django.sessions import SessionStore

BACKEND = "tenantkv.contrib.django.TenantCache"
OURS = {"BACKEND": BACKEND, "LOCATION": os.environ["SUITE_URL"]}
if os.environ.get("SUITE_SEAL"):
    OURS["OPTIONS"] = {"seal": True}  # type: ignore[assignment]
ALL = ct.caches_setting_for_tests(base=OURS, exclude={"cull", "zero_cull"})


class _Tidy(ct.BaseCacheTests):
    def tearDown(self) -> None:
        super().tearDown()
        # Another KEY_PREFIX is another cache, and all classes here run in one process and on one server.
        caches["prefix"].clear()


@override_settings(CACHES=ALL)
class Base(_Tidy, TestCase):
    """The sync API."""


class Awaited:
    """A cache, or all of them, whose methods are the coroutines of the real one, waited for."""

    def __init__(self, target: Any, wait: Any) -> None:
        self.__dict__.update(_target=target, _wait=wait)

    def __getattr__(self, name: str) -> Any:
        coroutine = getattr(self._target, f"a{name}", None)
        if name == "close" or not inspect.iscoroutinefunction(coroutine):
            return getattr(self._target, name)
        return lambda *args, **kwargs: self._wait(coroutine, *args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __getitem__(self, alias: str) -> Any:
        return Awaited(self._target[alias], self._wait)

    def __contains__(self, key: Any) -> bool:
        return bool(self._wait(self._target.ahas_key, key))


class _Async(_Tidy, TestCase):
    def setUp(self) -> None:
        super().setUp()
        for name, target in (("cache", cache), ("caches", caches)):
            patch = mock.patch.object(ct, name, Awaited(target, self.wait))
            patch.start()
            self.addCleanup(patch.stop)


for _name in dir(ct.BaseCacheTests):
    if _name.endswith("_async_uses_specialized_implementation"):
        # Of Django 6.1, about the pair of a method and its coroutine, which `Awaited` hides; `Base` has it.
        setattr(_Async, _name, None)


@override_settings(CACHES=ALL)
class Async(_Async):
    """The coroutines, with a loop for each call, as under WSGI."""

    def wait(self, coroutine: Any, *args: Any, **kwargs: Any) -> Any:
        return async_to_sync(coroutine)(*args, **kwargs)


@override_settings(CACHES=ALL)
class AsyncLoop(_Async):
    """The coroutines, all in one loop, as under ASGI."""

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        # From the first call on without a thread.
        patch = mock.patch.object(loops, "YOUTH", 0)
        patch.start()
        self.addCleanup(patch.stop)
        super().setUp()
        self.addCleanup(self._end)

    def _end(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def wait(self, coroutine: Any, *args: Any, **kwargs: Any) -> Any:
        return self.loop.run_until_complete(coroutine(*args, **kwargs))

    # These two ask the database of the test's own thread, which a loop that nobody called from there
    # cannot reach: no cache's business.
    test_cache_read_for_model_instance_with_deferred = None
    test_cache_write_for_model_instance_with_deferred = None


del _Async, _Tidy


def _repointed(tests: Any) -> Any:
    """Return a subclass whose locmem caches are ours."""
    settings = (getattr(tests, "_overridden_settings", None) or {}).get("CACHES") or {"default": {}}
    changed = {}
    for alias, params in settings.items():
        kept = {name: value for name, value in params.items() if name not in ("BACKEND", "LOCATION")}
        changed[alias] = {**kept, **OURS}
        if alias != "default":
            changed[alias]["OPTIONS"] = {**OURS.get("OPTIONS", {}), "name": alias}  # type: ignore[dict-item]
    made = type(f"Our{tests.__name__}", (tests,), {"__module__": __name__})
    return override_settings(CACHES=changed)(made)


_MIDDLEWARE = ("CacheUtils", "PrefixedCacheUtils", "CacheHEADTest", "CacheI18nTest", "PrefixedCacheI18nTest")
_MIDDLEWARE += ("CacheMiddlewareTest", "TestWithTemplateResponse", "CacheHandlerTest")
_SESSIONS = ("CacheSessionTests", "CacheDBSessionTests", "CacheDBSessionWithTimeZoneTests")
for _module, _names in ((ct, _MIDDLEWARE), (st, _SESSIONS), (tt, ("CacheTagTests", "CacheTests"))):
    for _name in _names:
        globals()[f"Our{_name}"] = _repointed(getattr(_module, _name))


class OurEngineTests(OurCacheSessionTests):  # type: ignore[name-defined]  # noqa: F821
    """Our session engine, by the tests of Django's."""

    backend = SessionStore
