"""Tests of Django's that do not apply, each with its reason; all others pass. `fnmatch` patterns of ids."""

from __future__ import annotations

EXEMPTIONS = {
    "*.test_cull": "the server evicts; Django skips it for its own Redis backend in the same way",
    "*.test_zero_cull": "the same",
    "*.test_cull_delete_when_store_empty": "the same",
}
