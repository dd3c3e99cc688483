"""From the server's frames to the client's, in order and in own names. No I/O here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from tenantkv.commands.channels import shape_invalidation
from tenantkv.envelope_header import MAGIC
from tenantkv.errors import TenantKVError
from tenantkv.namespace import Namespace
from tenantkv.proxy.replies import Push, ReplyReader, SetReply, encode, encode_error, like, parse
from tenantkv.transport.session import Session

# How the content of a bulk string begins that is an envelope.
_ENVELOPE = b"\n" + bytes([MAGIC])
_MESSAGES = frozenset({b"message", b"pmessage", b"smessage"})
_ACKNOWLEDGEMENTS = frozenset(
    {b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"}
)


@dataclass(slots=True)
class Awaited:
    """A reply with which something is to be done.

    Attributes:
        instead: what the client gets in its place.
        version: the protocol that is spoken from this reply on, if it is no error; 0 for the same.
        left: how many acknowledgements of a subscription are to come.
    """

    instead: bytes = b""
    version: int = 0
    left: int = 0


class Answers:
    """What is due to a client, and what the server has sent of it.

    Args:
        namespace: whose names the client speaks.

    Attributes:
        due: what the client waits for: bytes are an answer of the proxy's own, everything else is the
            server's next reply.
        protocol: 2 or 3.
        subscriptions: channels in wire names, with the sort of subscription.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._reader = ReplyReader()
        self._session: Session | None = None
        self.due: deque[Any] = deque()
        self.protocol = 2
        self.subscriptions: set[tuple[bytes, bytes]] = set()

    @property
    def session(self) -> Session:
        """The session of the connection to the server."""
        assert self._session is not None
        return self._session

    @session.setter
    def session(self, session: Session) -> None:
        self._session = session
        self._reader = ReplyReader()

    @property
    def has_state(self) -> bool:
        """Whether something would be lost with the connection to the server."""
        session = self._session
        return bool(
            self.subscriptions
            or (session is not None and (session.pending or session.transaction is not None))
            or (session is not None and session.watching)
        )

    def acknowledgements(self, name: str, words: Sequence[bytes]) -> Awaited:
        """Return what is due for a subscription, or its end: one acknowledgement a channel."""
        sort = _sort(name.lower().encode())
        current = sum(1 for each, _ in self.subscriptions if each == sort)
        return Awaited(left=len(words) - 1 or max(1, current))

    def feed(self, data: bytes) -> None:
        """Add what the server has sent."""
        self._reader.feed(data)

    def take_all(self) -> list[bytes]:
        """Return what can go to the client now."""
        ready: list[bytes] = []
        self._flush(ready)
        while (frame := self._reader.next()) is not None:
            self._take(frame, ready)
        return ready

    # A large value that nobody needs to look into goes on in parts.

    def begin_part(self) -> int:
        """Return the length of a large reply that may be handed on as it comes; 0 if there is none."""
        found = self._reader.begun()
        if found is None or not self.due or type(self.due[0]) is Awaited:
            return 0
        length, first = found
        if self.session.next_is_aside() or not self._is_untouched(b"\n" + first):
            return 0
        return length

    def part(self, most: int) -> bytes:
        """Take up to `most` bytes of such a reply."""
        return self._reader.part(most)

    def end_part(self) -> None:
        """Note that such a reply is complete."""
        self.session.pending.popleft()
        self.due.popleft()

    def _is_untouched(self, frame: bytes) -> bool:
        """Whether the next reply can be handed on as it came."""
        session = self.session
        if session.is_plain():
            return True
        if session.transaction is not None or not session.pending or not session.pending[0].glanced:
            return False
        # Content begins behind the end of a line, so a reply without this holds no envelope.
        return _ENVELOPE not in frame

    def _take(self, frame: bytes, ready: list[bytes]) -> None:
        mark = frame[:1]
        # In RESP3 a list is a reply, whatever it looks like.
        if mark == b">" or (mark == b"*" and self.protocol == 2 and self._listens):
            push = parse(frame)
            if mark == b">" or (push and push[0] in _MESSAGES | _ACKNOWLEDGEMENTS):
                self._take_push(push, ready)
                self._flush(ready)
                return
        session = self.session
        if session.next_is_aside():
            session.settle_aside(parse(frame))
            return
        entry = self.due.popleft()
        reply = self._settle(frame, mark, entry)
        ready.append(reply)
        self._flush(ready)

    @property
    def _listens(self) -> bool:
        return bool(self.subscriptions or (self.due and type(self.due[0]) is Awaited and self.due[0].left))

    def _flush(self, ready: list[bytes]) -> None:
        while self.due and type(self.due[0]) is bytes:
            ready.append(self.due.popleft())

    def _settle(self, frame: bytes, mark: bytes, entry: Any) -> bytes:
        session = self.session
        if mark in (b"-", b"!"):
            error = parse(frame)
            assert isinstance(error, ResponseError)
            if type(entry) is not Awaited or not entry.left:
                session.settle_error(error)
            else:
                # To a subscription, which is not among the pending.
                error.args = (self._namespace.redact(str(error)),)
            reply = encode_error(error)
        elif self._is_untouched(frame):
            session.pending.popleft()
            reply = frame
        else:
            reply = self._shape(frame)
        if type(entry) is Awaited:
            if entry.version and mark not in (b"-", b"!"):
                self.protocol = entry.version
            return entry.instead or reply
        return reply

    def _shape(self, frame: bytes) -> bytes:
        value = parse(frame)
        is_set = type(value) is SetReply
        kinds = [type(item) for item in value] if isinstance(value, list) else []
        if kinds:
            # What opens and shapes knows redis-py's types, among which sets are lists.
            value = [list(item) if type(item) is SetReply else item for item in value]
        try:
            settled = self.session.settle(value, decode=False)
        except TenantKVError as error:
            return encode_error(error)
        if settled is None and value is None:
            # There are three ways to say it.
            return frame
        return encode(like(settled, kinds, is_set=is_set), self.protocol)

    def _take_push(self, push: Any, ready: list[bytes]) -> None:
        kind = push[0] if push else b""
        if kind in _ACKNOWLEDGEMENTS:
            self._note(kind, push[1])
        elif kind == b"invalidate":
            ready.append(encode(Push(shape_invalidation(list(push), self._namespace)), self.protocol))
            return
        elif kind not in _MESSAGES:
            # Nothing that we know, so nothing that we could give in own names.
            return
        shaped = self.session.shape_message(list(push), self._namespace)
        if shaped is not None:
            ready.append(encode(Push(shaped), self.protocol))

    def _note(self, kind: bytes, channel: Any) -> None:
        sort = _sort(kind)
        if isinstance(channel, bytes):
            if b"unsubscribe" in kind:
                self.subscriptions.discard((sort, channel))
            else:
                self.subscriptions.add((sort, channel))
        if self.due and type(self.due[0]) is Awaited and self.due[0].left:
            self.due[0].left -= 1
            if not self.due[0].left:
                self.due.popleft()


def _sort(kind: bytes) -> bytes:
    """Return b"p", b"s" or b"": by pattern, by shard, or plain."""
    return kind[:1] if kind[:1] == b"p" or kind.startswith((b"ss", b"sun")) else b""
