"""What to do about a finding: refuse, warn or let pass, and count it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from tenantkv.errors import ConfigurationError, PlaintextRefusedError
from tenantkv.secrets.detector import Detector, Finding, Scannable

Mode = Literal["refuse", "warn", "off"]

# Each rule and key is warned about once; a program with more keys than that has been told.
_WARNED_AT_MOST = 1000


class PlaintextWarning(UserWarning):
    """A value that looks like a secret was stored in clear."""


class Policy:
    """Decides about each value that would be stored in clear.

    Counters are for people to look at: threads that count at the same time may lose one.

    Args:
        detector: finds what a value looks like.
        mode: ``refuse`` tiers 1 and 2 and warn of tier 3, only ``warn``, or ``off``.

    Example:
        >>> policy = Policy(Detector())
        >>> policy.check(b"42", command="SET", name=b"visits")
        >>> policy.check(b"tr0ub4dor", command="SET", name=b"db:password")
        Traceback (most recent call last):
            ...
        tenantkv.errors.PlaintextRefusedError: SET refused: the value of 'db:password' looks like ...
    """

    def __init__(self, detector: Detector, *, mode: Mode = "refuse") -> None:
        if mode not in get_args(Mode):
            raise ConfigurationError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.detector = detector
        self.mode = mode
        self._counts: Counter[tuple[str, str]] = Counter()
        self._warned: set[tuple[str, bytes]] = set()

    def __repr__(self) -> str:
        return f"Policy(mode={self.mode!r}, {self.detector!r})"

    def check(
        self,
        value: Scannable,
        *,
        command: str,
        name: bytes = b"",
        field: bytes = b"",
        plaintext_ok: str | None = None,
    ) -> None:
        """Raise if a value must not be stored in clear.

        A call that writes several values checks them all before it sends the first.

        Args:
            value: the value as it would be sent.
            command: what would send it, for the error's text.
            name: the key's own name.
            field: the hash field, or what else stands beside the value.
            plaintext_ok: why this value may be stored in clear; it is counted, and not looked at except
                for the namespace's own key material, for which no reason is good enough.

        Raises:
            PlaintextRefusedError: it looks like a secret.
            TypeError: `plaintext_ok` is no reason but a flag.
        """
        if self.mode == "off":
            return
        if plaintext_ok is not None:
            self._excuse(plaintext_ok)
            found = self.detector.find_own(value)
        else:
            found = self.detector.find(value, name=name, field=field)
        if found is None:
            return
        if found.tier == 3 or (self.mode == "warn" and found.rule != "own-keyring"):
            self._counts["warned", found.rule] += 1
            self._warn(found, name)
            return
        self._counts["refused", found.rule] += 1
        # A field that is itself the secret must not be in the text.
        raise PlaintextRefusedError(command, found.rule, name, b"" if found.is_field else field)

    def check_many(
        self, values: Sequence[bytes], *, command: str, name: bytes = b"", plaintext_ok: str | None = None
    ) -> None:
        """Check several values as `check` does; those that have a reason, in one go."""
        # What is in none of them is not in the whole either, unless where two meet: then each is asked.
        is_quick = plaintext_ok is not None and self.mode != "off" and len(values) > 1
        if plaintext_ok is not None and is_quick and self.detector.find_own(b"\0".join(values)) is None:
            self._excuse(plaintext_ok, len(values))
            return
        for value in values:
            self.check(value, command=command, name=name, plaintext_ok=plaintext_ok)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return how often what happened, by rule: ``{"refused": {"jwt": 2}, "excused": {...}}``.

        ``excused`` counts by the reasons that were given.
        """
        result: dict[str, dict[str, int]] = {"refused": {}, "warned": {}, "excused": {}}
        for (verdict, rule), count in sorted(self._counts.copy().items()):
            result[verdict][rule] = count
        return result

    def _excuse(self, reason: str, amount: int = 1) -> None:
        if not isinstance(reason, str) or not reason.strip():
            raise TypeError("plaintext_ok= takes the reason why this value is no secret, as text")
        if len(self._counts) < _WARNED_AT_MOST or ("excused", reason) in self._counts:
            self._counts["excused", reason] += amount

    def _warn(self, found: Finding, name: bytes) -> None:
        key = (found.rule, name)
        if key in self._warned or len(self._warned) >= _WARNED_AT_MOST:
            return
        self._warned.add(key)
        warnings.warn(
            f"the value of {repr(name)[1:]} looks like a secret ({found.rule}) and is stored in clear, "
            "where everybody on the server can read it",
            PlaintextWarning,
            stacklevel=3,
        )
