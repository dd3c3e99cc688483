"""Make a virtual environment with a recent pip, on any machine that has Python 3.10 or newer.

Run by the Makefile, before anything is installed: standard library only. Debian and its
relatives ship Python without ``ensurepip``, and perhaps without pip, so several ways are
tried in turn, from the one that needs nothing to those that fetch something:

1. ``python -m venv``
2. an empty environment, filled by the system's pip or by the pip wheel that Debian keeps
3. ``virtualenv`` or ``uv``, where they are installed
4. as root on Debian: ``apt-get install python3-venv``
5. else on Debian: the same pip wheel, downloaded as a package and unpacked, without installing
6. the pip wheel from the index that pip's own variables or configuration files name

Usage: make_venv.py DIRECTORY
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

# The first pip that knows --group.
PIP = "pip>=25.1"
DEBIAN_WHEELS = Path("/usr/share/python-wheels")


class WayClosedError(Exception):
    """This way does not work here; try the next one."""


def run(*command: str | Path, **options: object) -> None:
    """Run a command quietly; its last words are the reason when it fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **options,  # type: ignore[call-overload]
        )
    except OSError as error:
        raise WayClosedError(str(error)) from error
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise WayClosedError("; ".join(line.strip() for line in lines[-3:]) or str(command[0]))


def by_venv(target: Path) -> None:
    """Use what Python brings along."""
    run(sys.executable, "-m", "venv", target)


def by_system_pip(target: Path) -> None:
    """Let the pip of this Python fill an empty environment."""
    run(sys.executable, "-m", "pip", "--version")
    empty(target)
    # --python came with pip 22.3; --target works with all of them.
    try:
        run(sys.executable, "-m", "pip", "--python", python_of(target), "install", PIP)
    except WayClosedError:
        run(sys.executable, "-m", "pip", "install", "--target", site_of(target), PIP)


def by_debian_wheel(target: Path) -> None:
    """Use the pip wheel that Debian keeps for its own virtualenv."""
    fill(target, DEBIAN_WHEELS)


def by_tool(target: Path) -> None:
    """Use another tool that makes environments."""
    if shutil.which("virtualenv"):
        run("virtualenv", "--python", sys.executable, target)
    elif shutil.which("uv"):
        run("uv", "venv", "--seed", "--python", sys.executable, target)
    else:
        raise WayClosedError("neither virtualenv nor uv is installed")


def by_apt_as_root(target: Path) -> None:
    """Install what is missing."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise WayClosedError("not root on a Debian-like system")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", env=environment)
    run(
        *("apt-get", "install", "-y", "--no-install-recommends", "python3-venv"),
        env=environment,
    )
    try:
        by_venv(target)
    except WayClosedError:
        # A Python beside Debian's own does not see Debian's ensurepip, but can use its wheel.
        by_debian_wheel(target)


def by_apt_download(target: Path) -> None:
    """Unpack Debian's pip wheel; needs no rights, only package lists."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise WayClosedError("not a Debian-like system")
    with tempfile.TemporaryDirectory() as directory:
        run("apt-get", "download", "python3-pip-whl", cwd=directory)
        for package in Path(directory).glob("*.deb"):
            run("dpkg-deb", "-x", package, directory)
        fill(target, Path(directory, *DEBIAN_WHEELS.parts[1:]))


def by_index(target: Path) -> None:
    """Fetch pip from where pip itself would be told to look."""
    indexes = configured("index-url") + configured("extra-index-url")
    for place in configured("find-links") + [f"{index.rstrip('/')}/pip/" for index in indexes]:
        if Path(place).is_dir():
            try:
                fill(target, Path(place))
                return
            except WayClosedError:
                continue
        try:
            with tempfile.TemporaryDirectory() as directory:
                download(place, Path(directory))
                fill(target, Path(directory))
                return
        except (OSError, ValueError) as error:
            # Not its text, which may hold a URL with a password.
            raise WayClosedError(f"{type(error).__name__} from the index") from error
    raise WayClosedError("neither PIP_INDEX_URL nor pip's configuration leads to a pip wheel")


def configured(name: str) -> list[str]:
    """Return the values that pip would read for an option, from the environment or its files."""
    variable = "PIP_" + name.upper().replace("-", "_")
    if variable in os.environ:
        return os.environ[variable].split()
    files = configparser.RawConfigParser()
    home = Path("~").expanduser()
    files.read(["/etc/pip.conf", home / ".pip" / "pip.conf", home / ".config/pip/pip.conf"])
    return files.get("global", name, fallback="").split()


def download(page: str, directory: Path) -> None:
    """Save the newest pip wheel that a page of links names."""
    with urllib.request.urlopen(page, timeout=60) as answer:
        links = re.findall(r'href="([^"]+)"', answer.read().decode())
    wheels: dict[tuple[int, ...], tuple[str, str]] = {}
    for link in links:
        url = urllib.parse.urljoin(page, link)
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
        # Final releases only.
        if found := re.fullmatch(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl", name):
            wheels[version_of(found[1])] = url, name
    if not wheels:
        raise WayClosedError("the index has no pip wheel")
    url, name = wheels[max(wheels)]
    with urllib.request.urlopen(url, timeout=60) as answer:
        Path(directory, name).write_bytes(answer.read())


def fill(target: Path, wheels: Path) -> None:
    """Install pip into an empty environment with the newest pip wheel of a directory.

    A wheel is a zip file, and pip runs from it.
    """
    found = {
        version_of(match[1]): path
        for path in wheels.glob("pip-*-py3-none-any.whl")
        if (match := re.fullmatch(r"pip-(\d+(?:\.\d+)*)-.*", path.name))
    }
    if not found:
        raise WayClosedError(f"no pip wheel in {wheels}")
    wheel = found[max(found)]
    empty(target)
    run(python_of(target), wheel / "pip", "install", "--no-index", "--no-deps", wheel)


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def empty(target: Path) -> None:
    """Make an environment without pip; Debian's Python can always do that."""
    shutil.rmtree(target, ignore_errors=True)
    run(sys.executable, "-m", "venv", "--without-pip", target)


def python_of(target: Path) -> Path:
    return target / "bin" / "python"


def site_of(target: Path) -> Path:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return target / "lib" / version / "site-packages"


WAYS: tuple[Callable[[Path], None], ...] = (
    *(by_venv, by_system_pip, by_debian_wheel, by_tool),
    *(by_apt_as_root, by_apt_download, by_index),
)


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - an older Python shall say so
        print("tenantkv needs Python 3.10 or newer; try: make PYTHON=python3.12", file=sys.stderr)
        return 1
    target = Path(arguments[0])
    reasons = []
    for way in WAYS:
        shutil.rmtree(target, ignore_errors=True)
        try:
            way(target)
            # A pip that is there and works, and that is new enough for the Makefile.
            run(python_of(target), "-m", "pip", "install", "--upgrade", PIP)
        except WayClosedError as reason:
            reasons.append(f"  {way.__name__}: {reason}")
            continue
        print(f"made {target} {way.__name__.replace('_', ' ')}")
        return 0
    shutil.rmtree(target, ignore_errors=True)
    print(
        "No virtual environment could be made. Install your system's package for it (Debian and\n"
        "Ubuntu: apt-get install python3-venv), or set PIP_INDEX_URL to your package index.\n"
        "What was tried:\n" + "\n".join(reasons),
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
