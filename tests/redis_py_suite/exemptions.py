"""Tests of redis-py's that fail through our client, and why they may.

An exemption names tests by a pattern and says what their failure must show; a test that fails in another
way is not excused by it. The comparison also reports an exemption whose tests all pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Exemption:
    """Tests that may fail.

    Attributes:
        reason: why, for a reader of the report.
        shows: a regular expression that is found in the failure's text.
        tests: patterns for ``file.py::test_name``, without directory, class and parameters.
    """

    reason: str
    shows: str
    tests: tuple[str, ...]

    def covers(self, test: str) -> bool:
        """Whether the test with this id is one of them."""
        name = short(test)
        return any(fnmatchcase(name, pattern) for pattern in self.tests)

    def excuses(self, test: str, text: str) -> bool:
        """Whether a test may fail in the way that `text` tells."""
        return self.covers(test) and re.search(self.shows, text) is not None


def short(test: str) -> str:
    """Return ``file.py::test_name`` of a test's id."""
    path, _, name = test.partition("::")
    return f"{path.rpartition('/')[2]}::{name.partition('[')[0].rpartition('::')[2]}"


def _refused(commands: str, reason: str, *tests: str) -> Exemption:
    return Exemption(reason, rf"\b(?:{commands}) refused", tests)


EXEMPTIONS = (
)


def excuse(test: str, text: str) -> Exemption | None:
    """Return the exemption for a test that failed, if there is one."""
    return next((known for known in EXEMPTIONS if known.excuses(test, text)), None)
