"""Keys out of functions and their arguments."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tenantkv.cache.settings import check_ttl
from tenantkv.errors import ConfigurationError

_LONGEST_WRITTEN = 200
_OPTIONS = frozenset({"ttl", "stale", "negative", "early", "version", "codec", "background", "plaintext_ok"})


def is_async(function: object) -> bool:
    """Say whether calling a function gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - its type, not whether it can be called
    )


class _Quoting(string.Formatter):
    """Formats templates whose values cannot be taken for the text between them."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return quote(str(super().format_field(value, format_spec)), safe="")


_quoting = _Quoting()


class Memo:
    """How one function's calls become keys and tags.

    Args:
        function: what is cached.
        key: see `Cache.cached`.
        tags: see `Cache.cached`.
        options: for `get_or_compute`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        key: str | Callable[..., Any] | None,
        tags: Sequence[str] | Callable[..., Any],
        options: dict[str, Any],
    ) -> None:
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise ConfigurationError(
                f"cached() takes no {unknown[0]!r}; it takes key, tags, {', '.join(sorted(_OPTIONS))}"
            )
        if options.get("ttl") is not None:
            check_ttl(options["ttl"])
        if isinstance(tags, (str, bytes)):
            raise ConfigurationError("tags are a list of texts, not one text")
        self._function = function
        self._signature = inspect.signature(function)
        self._key = key
        self._tags = tags
        self._start = f"{function.__module__}.{function.__qualname__}"
        fields = [key] if isinstance(key, str) else []
        self._check_templates(fields if callable(tags) else [*fields, *tags])
        if key is None and next(iter(self._signature.parameters), "") in ("self", "cls"):
            raise ConfigurationError(
                "a method's first argument has no value of its own; give key=, such as 'user:{self.id}'"
            )

    def _check_templates(self, templates: Sequence[str]) -> None:
        for template in templates:
            for _, field, _, _ in string.Formatter().parse(template):
                first = (field or "x").partition(".")[0].partition("[")[0]
                if field is not None and first not in self._signature.parameters:
                    raise ConfigurationError(f"the template {template!r} names no argument of {self._start}")

    def key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the key of a call."""
        return self._made_key(args, kwargs, self._bound(args, kwargs))

    def key_and_tags(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
        """Return the key and the tags of a call."""
        bound = self._bound(args, kwargs)
        if callable(self._tags):
            tags: Sequence[Any] = self._tags(*args, **kwargs)
        else:
            tags = [_quoting.vformat(template, (), bound) for template in self._tags]
        return self._made_key(args, kwargs, bound), tags

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _made_key(self, args: Sequence[Any], kwargs: Mapping[str, Any], bound: dict[str, Any]) -> Any:
        if callable(self._key):
            return self._key(*args, **kwargs)
        if self._key is not None:
            return _quoting.vformat(self._key, (), bound)
        written = json.dumps([_plain(value, self._start) for value in bound.values()], separators=(",", ":"))
        if len(written) > _LONGEST_WRITTEN:
            written = hashlib.blake2b(written.encode(), digest_size=24).hexdigest()
        return f"{self._start}:{written}"

    def dress(self, call: Any, drop: Any, refresh: Any) -> Any:
        """Return `call` with the function's name and signature, and the three functions beside it."""
        functools.update_wrapper(call, self._function)
        call.cache_key = lambda *args, **kwargs: self.key(args, kwargs)
        call.invalidate = drop
        call.refresh = refresh
        return call


def memoize(cache: Any, function: Any, *, key: Any, tags: Any, options: dict[str, Any]) -> Any:
    """Return `function` with its results in a `Cache`."""
    if is_async(function):
        raise TypeError("a coroutine function is cached by an AsyncCache")
    memo = Memo(function, key, tags, options)

    def call(*args: Any, **kwargs: Any) -> Any:
        made, wanted = memo.key_and_tags(args, kwargs)
        return cache.get_or_compute(made, lambda: function(*args, **kwargs), tags=wanted, **options)

    def drop(*args: Any, **kwargs: Any) -> Any:
        return cache.delete(memo.key(args, kwargs), version=options.get("version"))

    def refresh(*args: Any, **kwargs: Any) -> Any:
        drop(*args, **kwargs)
        return call(*args, **kwargs)

    return memo.dress(call, drop, refresh)


def amemoize(cache: Any, function: Any, *, key: Any, tags: Any, options: dict[str, Any]) -> Any:
    """Return `function` as a coroutine function with its results in an `AsyncCache`."""
    memo = Memo(function, key, tags, options)

    async def call(*args: Any, **kwargs: Any) -> Any:
        made, wanted = memo.key_and_tags(args, kwargs)
        return await cache.get_or_compute(made, lambda: function(*args, **kwargs), tags=wanted, **options)

    async def drop(*args: Any, **kwargs: Any) -> Any:
        return await cache.delete(memo.key(args, kwargs), version=options.get("version"))

    async def refresh(*args: Any, **kwargs: Any) -> Any:
        await drop(*args, **kwargs)
        return await call(*args, **kwargs)

    return memo.dress(call, drop, refresh)


def _plain(value: Any, where: str) -> Any:
    """Return a value as JSON tells it from every other, or raise."""
    kind = type(value)
    if kind in (str, int, bool, type(None)):
        return value
    if kind is float:
        return {"float": repr(value)}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind in (list, tuple):
        return [kind.__name__, [_plain(each, where) for each in value]]
    if kind is dict:
        pairs = [[_plain(k, where), _plain(v, where)] for k, v in value.items()]
        return ["dict", sorted(pairs, key=json.dumps)]
    raise ConfigurationError(
        f"an argument of {where} is a {kind.__name__}, and makes no key; give key= to cached()"
    )
