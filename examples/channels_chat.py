"""A chat room over a channel layer, without Django: two members, each with a channel of its own.

::

    python channels_chat.py
"""

import asyncio
import sys

from tenantkv.contrib.channels import TenantChannelLayer


async def main(url: str | None) -> None:
    # In Django's settings: "BACKEND": "tenantkv.contrib.channels.TenantChannelLayer".
    layer = TenantChannelLayer(url)
    members = [await layer.new_channel() for _ in range(2)]
    for channel in members:
        await layer.group_add("room", channel)
    await layer.group_send("room", {"type": "chat.message", "text": "hello"})
    for number, channel in enumerate(members):
        message = await layer.receive(channel)
        print(f"member {number} hears: {message['text']}")
    await layer.close_pools()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "embedded://"))
