"""A channel layer without any keys: pub/sub only, so nothing of it can be evicted.

A message that nobody receives at that moment is gone, and a channel that several processes receive from
gets each message in all of them.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import defaultdict
from typing import Any

from channels.layers import BaseChannelLayer
from redis.exceptions import RedisError

from tenantkv.commands.own_scripts import OwnWord
from tenantkv.contrib.channels_messages import Vault, client_of, logger
from tenantkv.contrib.loop_states import LoopStates
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.transport.endings import end

_Base: Any = BaseChannelLayer


class _LoopState:
    """What belongs to one event loop: a client, its subscriptions, and messages that came."""

    def __init__(self, client: Any, layer: TenantPubSubChannelLayer) -> None:
        self.client = client
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        self.groups: defaultdict[str, set[str]] = defaultdict(set)
        # Wire side: own name of the server's channel -> what it is for.
        self.targets: dict[bytes, tuple[str, str]] = {}
        self.pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._layer = layer
        self._reader: asyncio.Task[None] | None = None

    async def subscribe(self, name: bytes, target: tuple[str, str]) -> None:
        if name not in self.targets:
            self.targets[name] = target
            await self.pubsub.subscribe(name)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.ensure_future(self._read())

    async def unsubscribe(self, name: bytes) -> None:
        if self.targets.pop(name, None) is not None:
            await self.pubsub.unsubscribe(name)

    async def _read(self) -> None:
        while self.targets:
            try:
                pushed = await self.pubsub.get_message(timeout=1.0)
            except (RedisError, OSError):
                # redis-py subscribes anew when it connects again.
                await asyncio.sleep(0.2)
                continue
            if pushed is not None and pushed["type"] == "message":
                self._layer.distribute(self, bytes(pushed["channel"]), bytes(pushed["data"]))

    async def close(self) -> None:
        if self._reader is not None:
            for error in await end(self._reader):
                raise error
        await self.pubsub.aclose()
        await self.client.aclose()


class TenantPubSubChannelLayer(_Base):
    """A channel layer on pub/sub; see the module.

    Args:
        url: as for `tenantkv.connect`.
        keyring: as for `tenantkv.connect`.
        namespace: as for `tenantkv.connect`.
        child: keep everything in this sub-tenant of the namespace.
        expiry: seconds for which a message counts.
        capacity: the most messages that wait in a process for one channel.
        channel_capacity: the same for channels that match.
        options: as for `tenantkv.connect`: time-outs, TLS ...
    """

    extensions = ("groups", "flush")

    def __init__(
        self,
        url: str | None = None,
        *,
        keyring: Keyring | str | os.PathLike[str] | None = None,
        namespace: Namespace | str | None = None,
        child: str | None = None,
        expiry: float = 60,
        capacity: int = 100,
        channel_capacity: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity, channel_capacity=channel_capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})

        def client() -> Any:
            return client_of(url, keyring=keyring, namespace=namespace, child=child, options=options)

        first = client()
        database = first.connection_pool.connection_kwargs.get("db") or 0
        self._vault = Vault(first.namespace, int(database), expiry)
        self._states: LoopStates[_LoopState] = LoopStates(lambda: _LoopState(client(), self))

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages this process dropped, by the reason."""
        return dict(self._vault.dropped)

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to whoever receives from a channel now. One round trip."""
        self.require_valid_channel_name(channel)
        await self._publish("channel", channel, message)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to every channel of a group. One round trip."""
        self.require_valid_group_name(group)
        await self._publish("group", group, message)

    async def _publish(self, what: str, own: str, message: dict[str, Any]) -> None:
        name = self._vault.name(what, own)
        sealed = self._vault.seal(name, message, ())
        await self._states.here().client.execute_command(OwnWord(b"PUBLISH"), name, sealed)

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a channel of this process, which it listens to from now on. One round trip."""
        channel = f"{prefix}.{uuid.uuid4().hex}!{uuid.uuid4().hex}"
        await self._listen(channel)
        return channel

    async def receive(self, channel: str) -> Any:
        """Wait for a message, and return it."""
        self.require_valid_channel_name(channel)
        queue = await self._listen(channel)
        try:
            return await queue.get()
        except asyncio.CancelledError:
            state = self._states.here()
            if queue.empty():
                # Whoever had the channel has gone.
                state.queues.pop(channel, None)
                await asyncio.shield(state.unsubscribe(self._vault.name("channel", channel)))
            raise

    async def _listen(self, channel: str) -> asyncio.Queue[Any]:
        state = self._states.here()
        queue = state.queues.get(channel)
        if queue is None:
            queue = state.queues[channel] = asyncio.Queue(self.get_capacity(channel))
        await state.subscribe(self._vault.name("channel", channel), ("channel", channel))
        return queue

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel of this process to a group. One round trip for the group's first."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._listen(channel)
        state = self._states.here()
        state.groups[group].add(channel)
        await state.subscribe(self._vault.name("group", group), ("group", group))

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel of this process out of a group. One round trip for the group's last."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        state = self._states.here()
        state.groups[group].discard(channel)
        if not state.groups[group]:
            del state.groups[group]
            await state.unsubscribe(self._vault.name("group", group))

    def distribute(self, state: _LoopState, name: bytes, blob: bytes) -> None:
        """Give a message that came to the queues it is for; full ones miss it."""
        target = state.targets.get(name)
        opened = self._vault.open(name, blob) if target is not None else None
        if target is None or opened is None:
            return
        what, own = target
        channels = [own] if what == "channel" else list(state.groups.get(own, ()))
        for channel in channels:
            queue = state.queues.get(channel)
            if queue is not None:
                try:
                    queue.put_nowait(opened[1])
                except asyncio.QueueFull:
                    logger.info("a channel of this process is full, and misses a message")

    async def flush(self) -> None:
        """Forget this process's channels and groups; the server holds nothing."""
        await self._states.close()

    async def close_pools(self) -> None:
        """Close the running loop's connections."""
        await self._states.close()

    close = close_pools
