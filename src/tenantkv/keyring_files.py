"""Files that hold secrets: read them safely, create them once, replace them whole, keep them out of git.

Laws of this file:

1. What is checked is the open file, not its name: one ``open``, then ``fstat`` on the descriptor.
2. A file appears complete or not at all: temporary file, fsync, link(2), fsync of the directory.
   Of several creators exactly one wins, and the others read what it wrote. (Measured with 16
   processes: "exists, then write" gave two identities in 13 of 30 rounds, this in none.) It is
   replaced in the same way, with rename(2) in the place of link(2).
3. No text of an error repeats what a file holds.

POSIX only: Windows has no modes, owners or link(2) to rely on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tenantkv.errors import (
    KeyringError,
    KeyringFormatError,
    KeyringNotFoundError,
    KeyringPermissionError,
)

Permissions = Literal["strict", "container"]

LARGEST_DOCUMENT_BYTES = 65536

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_GIT_SECONDS = 10.0


def read_secret_file(path: Path, *, symlinks: bool, permissions: Permissions) -> str:
    """Return the text of a file that only its owner (or root) could have written or read.

    Args:
        path: the file.
        symlinks: whether the last part of the path may be a symbolic link. Kubernetes mounts
            secrets as links; on a default path a link could only have been planted.
        permissions: ``"container"`` lets others read, as secret mounts do (0644), but never write.

    Raises:
        KeyringNotFoundError: there is no such file.
        KeyringPermissionError: it is not a regular file, somebody else owns it or could read it, or
            this process may not.
        KeyringFormatError: it is larger than any keyring, or is not UTF-8.
    """
    # O_NONBLOCK: opening a FIFO would wait for a writer, forever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags if symlinks else flags | os.O_NOFOLLOW)
    except OSError as error:
        raise _cannot_open(path, error) from None
    try:
        _check_file(os.fstat(descriptor), path, permissions)
        data = _read_all(descriptor)
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_DOCUMENT_BYTES:
        raise KeyringFormatError(f"{path} is larger than any keyring", source=str(path))
    try:
        return data.decode()
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text"
    raise KeyringFormatError(problem, source=str(path))


def check_directory(path: Path) -> None:
    """Refuse a directory in which another user could replace our file.

    Raises:
        KeyringPermissionError: others may write to it and it is not sticky.
    """
    try:
        status = path.stat()
    except OSError:
        # The caller's own open() says what is wrong, in better words.
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyringPermissionError(
            f"the directory {path} belongs to user {status.st_uid}, who could replace its files",
            source=str(path),
        )
    if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        raise KeyringPermissionError(
            f"the directory {path} can be written by others, who could replace its files; "
            f"run: chmod go-w {path}",
            source=str(path),
        )


def make_private_directory(path: Path, *, ours: bool) -> None:
    """Make `path` and what is missing above it with mode 0700.

    Args:
        path: the directory.
        ours: whether it is tenantkv's own directory, and so may be closed to others if it exists.

    Raises:
        KeyringPermissionError: it cannot be made, or others could write to it.
    """
    try:
        _make_directories(path)
        if ours:
            _close_to_others(path)
    except OSError as error:
        raise KeyringPermissionError(
            f"cannot make the directory {path}: {error.strerror}", source=str(path)
        ) from None
    check_directory(path)


def create_secret_file(path: Path, text: str) -> bool:
    """Create `path` with mode 0600, whole, or leave it alone if it exists.

    Returns:
        Whether this call created it.

    Raises:
        KeyringError: the file cannot be written.
    """
    try:
        return _create(path, text)
    except OSError as error:
        raise KeyringError(f"cannot write {path}: {error.strerror}", source=str(path)) from None


def replace_secret_file(path: Path, text: str) -> None:
    """Replace `path`, whole and with the mode it has, so that every reader sees all of one document.

    Raises:
        KeyringError: the file cannot be written; then it is as it was.
    """
    try:
        # Such as 0644, where a container's other users are meant to read it.
        mode = stat.S_IMODE(path.stat().st_mode)
        temporary = _write_temporary(path, text, mode)
        try:
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise KeyringError(f"cannot write {path}: {error.strerror}", source=str(path)) from None


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of those who rewrite `path`: flock on a file beside it, which stays there.

    Not on the file itself, which is another one after each rewrite.

    Raises:
        KeyringError: the lock's file cannot be opened.
    """
    beside = path.with_name(f".{path.name}.lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(beside, flags, 0o600)
    except OSError as error:
        raise KeyringError(f"cannot write {beside}: {error.strerror}", source=str(path)) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: the caller compares generations.
            pass
        yield
    finally:
        os.close(descriptor)


def drop_gitignore(directory: Path) -> None:
    """Put a ``.gitignore`` into `directory` that ignores everything in it.

    It is a second net for the day when somebody makes a repository above it. `check_git` does not
    count it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(directory / ".gitignore", flags, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise KeyringError(
            f"cannot write into {directory}: {error.strerror}", source=str(directory)
        ) from None
    with os.fdopen(descriptor, "w") as file:
        file.write("# made by tenantkv: keyrings are secret\n*\n")


def in_git_work_tree(directory: Path) -> bool:
    """Say whether a ``.git`` stands in `directory` or above it."""
    real = Path(os.path.realpath(directory))
    return any(os.path.lexists(place / ".git") for place in (real, *real.parents))


def check_git(path: Path) -> None:
    """Refuse a path inside a git work tree that does not ignore it. Nothing needs to exist yet.

    Raises:
        KeyringError: git would offer to commit the file, or cannot be asked.
    """
    directory = Path(os.path.realpath(path.parent))
    if not in_git_work_tree(directory):
        return
    existing = next(place for place in (directory, *directory.parents) if place.is_dir())
    inside = _git(existing, "rev-parse", "--is-inside-work-tree")
    if inside is not None and "not a git repository" in inside.stderr:
        return
    if inside is None or inside.returncode != 0:
        why = inside.stderr.strip().splitlines()[0] if inside and inside.stderr else "no git here"
        raise KeyringError(
            f"{path} lies in a git work tree, and git cannot be asked whether it is ignored "
            f"({why}); choose a place outside with --path",
            source=str(path),
        )
    if inside.stdout.strip() == "false":
        return
    # The directory is asked about itself, because a .gitignore inside of it, such as our own, says
    # nothing about it. Only without that file may a rule for the file alone count. A slash at the
    # end lets rules for directories match one that does not exist yet; git would look into others.
    targets = [f"{directory}" if directory.exists() else f"{directory}/"]
    if not os.path.lexists(directory / ".gitignore"):
        targets.append(f"{directory / path.name}")
    for target in targets:
        answer = _git(existing, "check-ignore", "-q", "--", target)
        if answer is not None and answer.returncode == 0:
            return
    raise KeyringError(
        f"{path} lies in a git work tree that does not ignore it, and would be committed sooner or "
        "later; ignore it there first, or choose a place outside with --path",
        source=str(path),
    )


def _cannot_open(path: Path, error: OSError) -> KeyringError:
    where = str(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return KeyringNotFoundError(f"there is no keyring at {path}", source=where)
    if error.errno == errno.ELOOP:
        return KeyringPermissionError(
            f"{path} is a symbolic link, which is followed only where the path was given "
            "explicitly (TENANTKV_SECRET_KEYRING_FILE or an argument)",
            source=where,
        )
    if error.errno in (errno.ENXIO, errno.EISDIR):
        return KeyringPermissionError(f"{path} is not a regular file", source=where)
    return KeyringPermissionError(f"cannot open {path}: {error.strerror}", source=where)


def _check_file(status: os.stat_result, path: Path, permissions: Permissions) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyringPermissionError(f"{path} is not a regular file", source=str(path))
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyringPermissionError(
            f"{path} belongs to user {status.st_uid}, neither to this user nor to root",
            source=str(path),
        )
    forbidden = _OTHERS_WRITE if permissions == "container" else _OTHERS
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        problem = f"{path} has mode {mode:04o} and is open to other users; run: chmod 600 {path}"
        if not mode & _OTHERS_WRITE:
            problem += " (for a container's secret mount: TENANTKV_KEYRING_PERMISSIONS=container)"
        raise KeyringPermissionError(problem, source=str(path))


def _read_all(descriptor: int) -> bytes:
    data = b""
    while len(data) <= LARGEST_DOCUMENT_BYTES:
        part = os.read(descriptor, LARGEST_DOCUMENT_BYTES + 1 - len(data))
        if not part:
            break
        data += part
    return data


def _make_directories(path: Path) -> None:
    for place in (*reversed(path.parents), path):
        # mkdir's mode is only narrowed by the umask, never widened.
        if not place.is_dir():
            place.mkdir(mode=0o700, exist_ok=True)


def _close_to_others(path: Path) -> None:
    status = path.stat()
    if status.st_uid == os.geteuid() and status.st_mode & _OTHERS:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)


def _create(path: Path, text: str) -> bool:
    temporary = _write_temporary(path, text, 0o600)
    try:
        try:
            os.link(temporary, path)
            created = True
        except FileExistsError:
            # On NFS a repeated request can report our own link as somebody else's.
            created = os.path.samefile(temporary, path) if path.exists() else False
    finally:
        os.unlink(temporary)
    _sync_directory(path.parent)
    return created


def _write_temporary(path: Path, text: str, mode: int) -> str:
    """Write `text` to a new file beside `path`, down to the disk, and return its name."""
    # mkstemp opens with O_EXCL and 0600; fchmod also undoes a umask that took our own bits.
    descriptor, temporary = tempfile.mkstemp(prefix=".keyring-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run git in `directory`, or return ``None`` where it cannot be run."""
    program = shutil.which("git")
    if program is None:
        return None
    # GIT_DIR and its like (set in hooks) would make git speak of another repository.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # fsmonitor is a program that the repository names; a question must not start it.
    command = [program, "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    try:
        return subprocess.run(
            command,
            env=environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
