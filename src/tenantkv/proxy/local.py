"""The commands that the proxy answers by itself, since they are about the client's own connection to it.

None of them ever reaches the server: its password, its database and its connection's name are not the
client's business.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tenantkv.errors import ForbiddenCommandError

OK = b"+OK\r\n"
NO_AUTH = b"-NOAUTH Authentication required.\r\n"
WRONG_PASSWORD = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NO_PASSWORD_SET = b"-ERR AUTH called, but this proxy has no password: it is not needed\r\n"
HELLO_NO_AUTH = (
    b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> "
    b"AUTH <user> <pass> option can be used to authenticate the client\r\n"
)
SYNTAX = b"-ERR syntax error\r\n"
NO_PROTOCOL = b"-NOPROTO unsupported protocol version\r\n"
NOT_QUEUED = b"-ERR this command is not taken inside of a transaction by the tenantkv proxy\r\n"

NO_FLUSH = ForbiddenCommandError(
    "FLUSHDB",
    "it deletes the whole namespace, queues and locks of other programs too.",
    "Use 'tenantkv clear', which leaves queues alone, or start the proxy with --allow-flush.",
)

_LONGEST_NAME_BYTES = 256


@dataclass(slots=True)
class Visitor:
    """What the proxy knows of one client.

    Attributes:
        number: counts clients from 1; the answer to CLIENT ID.
        password: what AUTH must say, or ``None`` if nobody has to.
        is_known: whether it may give commands.
        name: from CLIENT SETNAME.
    """

    number: int
    password: bytes | None = field(repr=False)
    is_known: bool = False
    name: bytes = b""

    def __post_init__(self) -> None:
        self.is_known = self.password is None

    def authenticate(self, words: Sequence[bytes]) -> bytes:
        """Return the answer to ``[user,] password``. Takes as long for a wrong one as for the right one."""
        if len(words) not in (1, 2):
            return SYNTAX
        if self.password is None:
            # Clients are often configured with some user and password: with "default" redis-py says both.
            return NO_PASSWORD_SET
        is_right = hmac.compare_digest(words[-1], self.password)
        if not is_right or (len(words) == 2 and words[0] != b"default"):
            return WRONG_PASSWORD
        self.is_known = True
        return OK

    def greet(self, words: Sequence[bytes]) -> tuple[bytes, bytes | None]:
        """Take ``HELLO [version [AUTH user password] [SETNAME name]]``.

        Returns:
            The version (empty if none is asked for), and an answer if the command ends here.
        """
        version = words[1] if len(words) > 1 else b""
        if version not in (b"", b"2", b"3"):
            return b"", NO_PROTOCOL
        at, name = 2, self.name
        while at < len(words):
            option = words[at].upper()
            if option == b"AUTH" and at + 2 < len(words):
                answer = self.authenticate(words[at + 1 : at + 3])
                if answer != OK:
                    return b"", answer
                at += 3
            elif option == b"SETNAME" and at + 1 < len(words) and _is_name(words[at + 1]):
                name = words[at + 1]
                at += 2
            else:
                return b"", SYNTAX
        if not self.is_known:
            return b"", HELLO_NO_AUTH
        self.name = name
        return version, None

    def answer(self, words: Sequence[bytes]) -> bytes | None:
        """Return the answer to a command that is about the connection to the proxy; ``None`` for others."""
        name = words[0].upper()
        if name == b"SELECT" and len(words) == 2:
            if words[1] == b"0":
                return OK
            return b"-ERR SELECT refused: a namespace has one database, which is 0 here.\r\n"
        if name != b"CLIENT" or len(words) < 2:
            return None
        handler = _CLIENT.get(words[1].upper())
        return None if handler is None else handler(self, words)

    def _set_name(self, words: Sequence[bytes]) -> bytes:
        if len(words) != 3 or not _is_name(words[2]):
            return b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        self.name = words[2]
        return OK

    def _get_name(self, words: Sequence[bytes]) -> bytes:
        return b"$%d\r\n%b\r\n" % (len(self.name), self.name)

    def _set_info(self, words: Sequence[bytes]) -> bytes:
        return OK if len(words) == 4 else SYNTAX

    def _id(self, words: Sequence[bytes]) -> bytes:
        return b":%d\r\n" % self.number


def _is_name(name: bytes) -> bool:
    return len(name) <= _LONGEST_NAME_BYTES and all(33 <= byte <= 126 for byte in name)


_CLIENT: dict[bytes, Callable[[Visitor, Sequence[bytes]], bytes]] = {
    b"SETNAME": Visitor._set_name,
    b"GETNAME": Visitor._get_name,
    b"SETINFO": Visitor._set_info,
    b"ID": Visitor._id,
}
