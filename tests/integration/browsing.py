"""A real browser, the example sites as real processes, and a server that can go and come back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tenantkv import Namespace, embedded
from tests.neighbourhood import EXAMPLES, ROOT, wait_for
from tests.servers import RealServer, free_port

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
# A page that takes longer than this is one that hangs: an exception of the driver.
PATIENCE = 20

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    "--window-size=900,900",
    # Nothing but this machine exists.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class Browser:
    """What a person has before him.

    Attributes:
        driver: selenium's.
    """

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in _FLAGS:
            options.add_argument(flag)
        self.driver: Any = webdriver.Chrome(options, Service(DRIVER))
        self.driver.set_page_load_timeout(PATIENCE)
        pictures = os.environ.get("TENANTKV_SCREENSHOTS")
        self._pictures = Path(pictures) if pictures else None

    def go(self, url: str, status: int = 200) -> None:
        """Open a page."""
        self.driver.get(url)
        assert self.status == status, f"{url}: {self.status}: {self.page[:2000]}"

    def reload(self) -> None:
        self.go(self.driver.current_url)

    def press(self, button: str) -> None:
        """Press a button that leads to another page."""
        old = self.driver.find_element(By.TAG_NAME, "html")
        self.driver.find_element(By.ID, button).click()
        wait = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.02)
        wait.until(lambda _: _is_gone(old))
        wait.until(lambda driver: driver.execute_script("return document.readyState") == "complete")
        assert self.status == 200, f"{button}: {self.status}: {self.page[:2000]}"

    def log_in(self, name: str) -> None:
        self.driver.find_element(By.NAME, "name").send_keys(name)
        self.press("login")

    def __getitem__(self, name: str) -> str:
        """Return the text of an element as it is seen."""
        return str(self.driver.find_element(By.ID, name).text)

    @property
    def page(self) -> str:
        """The text of the whole page as it is seen."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    @property
    def status(self) -> int:
        """The page's HTTP status; 0 for a page of the browser's own."""
        script = "return performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0"
        return int(self.driver.execute_script(script))

    @property
    def cookies(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.driver.get_cookies()}

    def picture(self, name: str) -> None:
        """Save what is seen where TENANTKV_SCREENSHOTS says so."""
        if self._pictures is not None:
            self._pictures.mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(self._pictures / f"{name}.png"))

    def forget(self) -> None:
        """Be another person: without cookies, and without anything kept from earlier."""
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        self.driver.get("about:blank")
        self.complaints()

    def complaints(self) -> list[str]:
        """Return what the browser has to say about the pages since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def close(self) -> None:
        self.driver.quit()


_COMMANDS = {
    "django": ("django_site/manage.py", "runserver", "--noreload", "127.0.0.1:{port}"),
    "flask": ("-m", "flask", "--app", "flask_site:make", "run", "--port", "{port}"),
}


@contextlib.contextmanager
def site(kind: str, server_port: int, namespace: Namespace, logs: Path, *, port: int = 0) -> Iterator[int]:
    """Run an example site as its author says, and give its port on 127.0.0.1."""
    port = port or free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTKV_", "TOOL_", "REDIS_"))}
    log = logs / f"{kind}-{port}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *(word.format(port=port) for word in _COMMANDS[kind])],
            env={
                **kept,
                "TENANTKV_URL": f"redis://127.0.0.1:{server_port}",
                "TENANTKV_SECRET_KEYRING": namespace.keyring.dump(compact=True),
                "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{EXAMPLES}",
                "PYTHONUNBUFFERED": "1",
            },
            cwd=EXAMPLES,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for("the site", lambda: accepts(port) or process.poll() is not None)
        assert process.poll() is None, "the site ended"
        yield port
    except BaseException:
        print(log.read_text(errors="replace")[-6000:], file=sys.stderr)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = log.read_text(errors="replace")
    assert namespace.keyring.prefix not in text, "the prefix is in a site's log"
    assert "Traceback" not in text, text[-6000:]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def start_with_data(directory: Path, port: int) -> RealServer:
    """Start a shared server on a port; it has what the one before it in the directory had."""
    config = {"bind": "127.0.0.1", "port": str(port)}
    return RealServer(embedded.start("shared", persistent_dir=directory, extra_config=config), port=port)


def _is_gone(element: Any) -> bool:
    """Whether an element's page was left; in the middle of that Chromium may not know the element."""
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    except WebDriverException as error:
        return "does not belong to the document" in str(error)
    return False
