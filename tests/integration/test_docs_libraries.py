"""The code in docs/libraries.md and docs/registry.md runs, each block in an interpreter of its own."""

from __future__ import annotations

import re
import sys

import pytest

from tests.neighbourhood import ROOT, neighbourhood

TEXT = "".join((ROOT / "docs" / name).read_text() for name in ("libraries.md", "registry.md"))
BLOCKS = re.findall(r"^## (.+?)$|^```python\n(.*?)^```", TEXT, re.M | re.S)


def blocks():
    title = ""
    for heading, code in BLOCKS:
        if heading:
            title = heading.split()[0].strip(":")
        else:
            yield pytest.param(code, id=title)


@pytest.mark.parametrize("code", list(blocks()))
def test_block(shared_server, code):
    with neighbourhood(shared_server) as place:
        place.plant(lambda client: client.set("numbers", "the neighbour's"))
        place.run(sys.executable, "-W", "error::ResourceWarning", "-c", code)


def test_every_library_has_a_block():
    titles = {param.id for param in blocks()}
    assert {"RQ", "Huey", "dramatiq", "python-redis-lock", "limits"} <= titles
    assert {"Flask-Session", "Flask-Caching", "walrus"} <= titles
