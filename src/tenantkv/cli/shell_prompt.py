"""The shell's line editor: completion of commands and own names, and a history without values.

The only module that imports ``prompt_toolkit``, which the extra ``cli`` brings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History, InMemoryHistory

from tenantkv.cli import output
from tenantkv.cli.shell_words import quoted, split, without_values
from tenantkv.commands.table import RULES
from tenantkv.errors import KeyringError, TenantKVError
from tenantkv.keyring_files import make_private_directory
from tenantkv.ops.listing import Listing

_LINES = 1000
_NAMES = 2000
# Seconds for which names that were listed are offered.
_FRESH = 30.0
# Seconds that a listing may take; what was found by then is offered.
_PATIENCE = 1.0


def prompt_reader(client: Any, *, with_history: bool) -> Callable[[str], str]:
    """Return a function that reads a line, with a prompt in front."""
    history: History = InMemoryHistory()
    if with_history:
        try:
            history = NamesHistory(history_path(client.namespace.fingerprint))
        except (KeyringError, OSError) as error:
            output.warn(f"no history is kept: {error}")
    session: PromptSession[str] = PromptSession(
        history=history,
        completer=ThreadedCompleter(NameCompleter(client)),
        complete_while_typing=False,
        enable_open_in_editor=False,
    )
    return session.prompt


def history_path(fingerprint: str) -> Path:
    """Return the file of a namespace's history; its directory is made, for its owner only."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = Path(base) / "tenantkv"
    make_private_directory(directory, ours=True)
    return directory / f"history-{fingerprint}"


class NamesHistory(History):
    """Keeps commands and names on disk, and never a value.

    Args:
        path: a file, made with mode 0600.

    Raises:
        OSError: it cannot be opened, or is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        os.close(self._open(os.O_RDWR | os.O_CREAT))
        os.chmod(path, 0o600)

    def load_history_strings(self) -> Iterable[str]:
        """Return lines of earlier sessions, the newest first."""
        with os.fdopen(self._open(os.O_RDONLY), encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()[-_LINES:][::-1]

    def store_string(self, string: str) -> None:
        """Keep of a line what is no value."""
        try:
            line = without_values(split(string))
        except TenantKVError:
            return
        if line:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(self._open(flags), "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line + "\n")

    def _open(self, flags: int) -> int:
        return os.open(self._path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


class NameCompleter(Completer):
    """Offers commands for the first word, and own names for the others."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._commands = sorted(name for name, rule in RULES.items() if rule.policy != "refuse")
        self._names: list[str] = []
        self._fresh_until = 0.0

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand where the cursor is."""
        text = document.text_before_cursor.lstrip()
        start = text.rpartition(" ")[2]
        if " " not in text:
            offered: Iterable[str] = (name for name in self._commands if name.startswith(text.upper()))
        else:
            offered = (name for name in self._known_names() if name.startswith(start))
        for each in offered:
            yield Completion(each, start_position=-len(start), display=output.clean(each[:100]))

    def _known_names(self) -> list[str]:
        now = time.monotonic()
        if now >= self._fresh_until:
            try:
                self._names = self._list(now + _PATIENCE)
            except Exception:
                # Completion is a convenience: what is wrong shows with the next command.
                self._names = []
            self._fresh_until = time.monotonic() + _FRESH
        return self._names

    def _list(self, until: float) -> list[str]:
        listing = Listing(self._client.registrar)
        found: list[bytes] = []
        while not listing.is_over and len(found) < _NAMES and time.monotonic() < until:
            found += self._client.run(listing.page(time.time()))
        return sorted(map(quoted, found[:_NAMES]))
