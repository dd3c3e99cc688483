"""The example sites in a real browser: what a person sees, beside neighbours and while the server is away.

``TENANTKV_SCREENSHOTS`` names a directory for pictures of the pages.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tenantkv import Keyring, Namespace
from tests.cli_program import Program
from tests.neighbourhood import wait_for
from tests.servers import RealServer, free_port, start_tcp

pytest.importorskip("selenium", reason="selenium is not installed")

from tests.integration.browsing import CHROMIUM, DRIVER, Browser, site, start_with_data

if not CHROMIUM or not DRIVER:
    pytest.skip("there is no chromium with a chromedriver on PATH", allow_module_level=True)

# Every page that is no form, the one that is cached as a whole first.
PAGES = {"django": ("slow", "counter"), "flask": ("report", "search")}
NAME = "Åsa <b>Ωmega</b> & 'Co'"
AWAY, ANSWERS = "The server is away.", "The server answers."


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(started) -> Browser:
    started.forget()
    return started


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[RealServer]:
    server = start_tcp("shared")
    yield server
    server.stop()


@pytest.fixture
def server(tcp_server) -> RealServer:
    tcp_server.flush()
    return tcp_server


@pytest.fixture(params=sorted(PAGES))
def kind(request) -> str:
    return request.param


def tenant() -> Namespace:
    return Namespace(Keyring.generate(os.urandom(96)))


def test_visit(browser, kind, server, tmp_path):
    owner = tenant()
    with site(kind, server.port, owner, tmp_path) as port:
        front = f"http://127.0.0.1:{port}/"
        browser.go(front)
        assert (browser["name"], browser["status"], browser["mine"]) == ("stranger", ANSWERS, "1")
        browser.picture(f"{kind}-1-stranger")
        browser.log_in(NAME)
        assert (browser["name"], browser["mine"], browser["everybody"]) == (NAME, "2", "2")
        browser.picture(f"{kind}-2-logged-in")

        part, made = browser["part"], browser["now"]
        browser.reload()
        assert browser["part"] == part and browser["now"] != made
        assert (browser["mine"], browser["everybody"]) == ("3", "3")
        browser.picture(f"{kind}-3-reloaded")
        computed = whole_page(browser, front, kind)
        assert "computed 1 times" in computed and whole_page(browser, front, kind) == computed
        browser.picture(f"{kind}-4-cached-page")

        with site(kind, server.port, owner, tmp_path) as second:
            browser.go(f"http://127.0.0.1:{second}/")
            assert (browser["name"], browser["mine"], browser["part"]) == (NAME, "4", part)

    # Django's key of a whole page has host and port in it, so this is the same site started again.
    with site(kind, server.port, owner, tmp_path, port=port):
        assert whole_page(browser, front, kind) == computed
        browser.go(front)
        assert (browser["name"], browser["mine"], browser["part"]) == (NAME, "5", part)
        browser.press("clear")
        assert browser["status"] == f"{ANSWERS} The cache was cleared."
        assert browser["part"] != part and browser["name"] == NAME
        browser.picture(f"{kind}-5-cleared")
        part = browser["part"]
        browser.reload()
        assert browser["part"] == part
        assert whole_page(browser, front, kind) != computed
        browser.go(front)
        browser.press("logout")
        assert browser["name"] == "stranger"
    assert browser.complaints() == []


def whole_page(browser: Browser, front: str, kind: str) -> str:
    browser.go(front + PAGES[kind][0])
    return browser["computed"]


def test_counter(browser, server, tmp_path):
    with site("django", server.port, tenant(), tmp_path) as port:
        for count in ("1", "2", "3"):
            browser.go(f"http://127.0.0.1:{port}/counter")
            assert browser["count"] == count
        browser.picture("django-6-counter")


def test_limit(browser, server, tmp_path):
    with site("flask", server.port, tenant(), tmp_path) as port:
        for _ in range(3):
            browser.go(f"http://127.0.0.1:{port}/search")
            assert browser["search"] == "found"
        browser.picture("flask-6-search")
        browser.go(f"http://127.0.0.1:{port}/search", 429)
        assert browser["search"].startswith("Slow down")
        browser.picture("flask-7-slow-down")


def test_server_killed_and_back(browser, kind, tmp_path):
    data, port = tmp_path / "data", free_port()
    server = start_with_data(data, port)
    try:
        with site(kind, port, tenant(), tmp_path) as site_port:
            front = f"http://127.0.0.1:{site_port}/"
            browser.go(front)
            browser.log_in(NAME)
            part = browser["part"]
            server.kill()
            check_outage(browser, front, kind, f"{kind}-8-away")
            browser.go(front)
            browser.press("clear")
            assert browser["later"] == "The cache is cleared as soon as the server is back."
            browser.picture(f"{kind}-9-cleared-while-away")

            # It comes back with what it had, less what was to be cleared.
            server.stop()
            server = start_with_data(data, port)
            return_to(browser, front)
            assert browser["name"] == NAME and browser["part"] != part
            browser.picture(f"{kind}-10-back")
            check_that_it_works(browser, front, kind)

            # It hangs for a while.
            os.kill(server.pid, signal.SIGSTOP)
            try:
                check_outage(browser, front, kind, f"{kind}-11-hangs")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            return_to(browser, front)
            assert browser["name"] == NAME

            # It goes while somebody logs in, and comes back with nothing.
            browser.press("logout")
            server.kill()
            browser.log_in(NAME)
            assert browser["name"] == "stranger" and AWAY in browser["status"]
            check_outage(browser, front, kind)
            server.stop()
            shutil.rmtree(data)
            server = start_with_data(data, port)
            return_to(browser, front)
            assert browser["name"] == "stranger"
            browser.log_in(NAME)
            check_that_it_works(browser, front, kind)
    finally:
        server.stop()


def check_outage(browser: Browser, front: str, kind: str, picture: str = "") -> None:
    """See each page, more than once: it is there, made anew, and says what is the matter."""
    parts = set()
    for _ in range(3):
        browser.go(front)
        assert AWAY in browser["status"] and browser["name"] == "stranger"
        assert browser["everybody"] == "unknown"
        parts.add(browser["part"])
    assert len(parts) == 3
    if picture:
        browser.picture(picture)
    for page in PAGES[kind]:
        browser.go(front + page)
        assert AWAY in browser["status"]
        if picture:
            browser.picture(f"{picture}-{page}")
    assert whole_page(browser, front, kind) != whole_page(browser, front, kind)


def check_that_it_works(browser: Browser, front: str, kind: str) -> None:
    browser.go(front)
    part, mine, everybody = browser["part"], int(browser["mine"]), int(browser["everybody"])
    browser.reload()
    assert (browser["name"], browser["part"]) == (NAME, part)
    assert (int(browser["mine"]), int(browser["everybody"])) == (mine + 1, everybody + 1)
    assert whole_page(browser, front, kind) == whole_page(browser, front, kind)
    browser.go(front)
    browser.press("clear")
    assert browser["part"] != part and browser["name"] == NAME


def return_to(browser: Browser, front: str) -> None:
    """Reload until the site has found out that the server is back."""

    def is_back() -> bool:
        browser.go(front)
        return browser["status"].startswith(ANSWERS)

    wait_for("the site to find the server", is_back)
    # Its caches find it each for itself; one may have rested a moment longer.
    wait_for("the session and the cached part", lambda: is_back() and is_settled(browser))


def is_settled(browser: Browser) -> bool:
    part, mine = browser["part"], int(browser["mine"])
    browser.reload()
    return browser["part"] == part and int(browser["mine"]) == mine + 1


def test_second_tenant(browser, kind, server, tmp_path):
    with (
        site(kind, server.port, tenant(), tmp_path) as ours,
        site(kind, server.port, tenant(), tmp_path) as theirs,
    ):
        # Two host names, as cookies do not tell ports apart.
        our_front, their_front = f"http://127.0.0.1:{ours}/", f"http://localhost:{theirs}/"
        browser.go(our_front)
        browser.log_in(NAME)
        part, computed = browser["part"], whole_page(browser, our_front, kind)
        cookies = browser.cookies

        browser.go(their_front)
        for name, value in cookies.items():
            browser.driver.add_cookie({"name": name, "value": value})
        browser.go(their_front)
        assert (browser["name"], browser["mine"], browser["everybody"]) == ("stranger", "1", "2")
        assert browser["part"] != part
        assert whole_page(browser, their_front, kind) != computed
        browser.go(their_front)
        browser.log_in("Mallory")
        browser.press("clear")
        assert browser["name"] == "Mallory"
        browser.picture(f"{kind}-12-second-tenant")

        browser.go(our_front)
        assert (browser["name"], browser["mine"], browser["part"]) == (NAME, "3", part)
        assert whole_page(browser, our_front, kind) == computed


class Exploit:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


Poison = Callable[[Any, list[bytes], Path], object]


def put(raw: Any, names: list[bytes], value: bytes) -> None:
    raw.mset(dict.fromkeys(names, value))


def lists(raw: Any, names: list[bytes]) -> None:
    raw.delete(*names)
    for name in names:
        raw.rpush(name, "POISON")


def rotated(raw: Any, names: list[bytes]) -> None:
    """Put each value under the next name: all of them are the tenant's own."""
    values = [raw.dump(name) for name in names]
    for name, value in zip(names, values[1:] + values[:1], strict=True):
        raw.restore(name, 100_000, value, replace=True)


POISONS: dict[str, Poison] = {
    "text": lambda raw, names, mark: put(raw, names, b"<h1>POISON</h1>"),
    "number": lambda raw, names, mark: put(raw, names, b"666666"),
    "pickle": lambda raw, names, mark: put(raw, names, pickle.dumps(Exploit(mark))),
    "json": lambda raw, names, mark: put(raw, names, b'{"name": "POISON", "visits": 666666}'),
    "nothing": lambda raw, names, mark: put(raw, names, b""),
    "lists": lambda raw, names, mark: lists(raw, names),
    "rotated": lambda raw, names, mark: rotated(raw, names),
}


def test_poison(browser, kind, server, tmp_path):
    owner, mark = tenant(), tmp_path / "mark"
    raw: Any = redis.Redis(port=server.port, protocol=2)
    with site(kind, server.port, owner, tmp_path) as port, raw:
        front = f"http://127.0.0.1:{port}/"
        for name, poison in POISONS.items():
            browser.go(front)
            browser.log_in(NAME)
            part = browser["part"]
            computed = whole_page(browser, front, kind)
            names = sorted(each for each in server.dump_keys() if each.startswith(owner.wire_prefix))
            assert len(names) >= 4
            poison(raw, names, mark)

            browser.go(front)
            assert (browser["name"], browser["status"]) == ("stranger", ANSWERS), name
            assert browser["part"] != part and int(browser["everybody"]) < 1000
            assert "POISON" not in browser.page and "666" not in browser["mine"]
            assert whole_page(browser, front, kind) != computed
            for page in PAGES[kind][1:]:
                # A limit counts what it finds there as nothing, and so may let go or not.
                browser.driver.get(front + page)
                assert browser.status in {200, 429} and "POISON" not in browser.page
            if name == "pickle":
                browser.go(front)
                browser.picture(f"{kind}-13-poisoned")
        browser.go(front)
        browser.log_in(NAME)
        check_that_it_works(browser, front, kind)
    assert not mark.exists()


def test_another_visitor_s_session(browser, kind, server, tmp_path):
    owner = tenant()
    raw: Any = redis.Redis(port=server.port, protocol=2)

    def names() -> set[bytes]:
        return {each for each in server.dump_keys() if each.startswith(owner.wire_prefix)}

    with site(kind, server.port, owner, tmp_path) as port, raw:
        known: set[bytes] = set()
        for host, who in (("localhost", "Bob"), ("127.0.0.1", "Alice")):
            browser.go(f"http://{host}:{port}/")
            browser.log_in(who)
            assert browser["name"] == who
            if who == "Bob":
                known = names()
        # What Alice's log-in has added is her session.
        (hers,) = names() - known
        for theirs in known:
            if raw.type(theirs) == b"string":
                raw.set(hers, raw.get(theirs), ex=1000)
                browser.go(f"http://127.0.0.1:{port}/")
                assert browser["name"] == "stranger"
        browser.go(f"http://localhost:{port}/")
        assert browser["name"] == "Bob"


def test_usage_page(browser, shared_server, tmp_path):
    program = Program(tmp_path, shared_server.url)
    with program.connect() as kv:
        for number in range(40):
            kv.set(f"page:{number}", "x" * 100 * number, ex=3600)
            kv.rpush(f"jobs:{number % 3}", number)
        kv.set("forever:<script>alert(1)</script>", "y" * 5000)
        kv.set("naïve:Ωmega & 'Co'", "z" * 900)
        kv.set("long:" + "segment" * 60, "z" * 900)
        kv.hset("users", mapping={str(number): number for number in range(200)})
    page = tmp_path / "report.html"
    done = program.run("usage", "--html", str(page))
    assert done.returncode == 0, done.stderr
    for width, name in ((900, "usage"), (420, "usage-narrow")):
        browser.driver.set_window_size(width, 2200)
        browser.driver.get(page.as_uri())
        browser.picture(name)
        assert browser.page.startswith("Namespace ")
        wider = browser.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wider == 0, "the page must not scroll sideways"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    browser.picture("usage-dark")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert "naïve" in browser.page and "forever:<script>alert(1)</script>" in browser.page
    assert browser.driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.complaints() == []
    browser.driver.set_window_size(900, 900)
