"""`tenantkv cache`, as far as it needs no server: the kinds of keys are those that caches make."""

from __future__ import annotations

import pytest

from tenantkv.cli.cache import kind_of
from tenantkv.ops.cache_names import Names


@pytest.mark.parametrize("hidden", [False, True])
def test_every_kind_of_key_is_told_apart(hidden: bool) -> None:
    names = Names("pages", hide=lambda _: b"-" * 24, hidden=hidden)
    entry = names.entry("tag:x", 1)
    kinds = {
        entry: "entry",
        names.entry("x" * 600, "word"): "entry",
        names.tag("news"): "tag",
        names.tag("x" * 600): "tag",
        names.lease(entry): "lease",
        names.stamp: "other",
        names.news: "other",
    }
    assert {key: kind_of(key[len(names.base) :]) for key in kinds} == kinds
