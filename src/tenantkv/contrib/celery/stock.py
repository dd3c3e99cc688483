"""kombu's and Celery's parts that ours are built on, as what they are to a type checker: anything.

They are only partly annotated, and where they are, not for those who inherit from them.
"""

from __future__ import annotations

from typing import Any

from kombu.connection import Connection as KombuConnection
from kombu.exceptions import ChannelError as KombuChannelError
from kombu.transport import redis, virtual
from kombu.utils import json

Channel: Any = redis.Channel
Connection: Any = KombuConnection
ChannelError: Any = KombuChannelError
QoS: Any = virtual.QoS
REFRESH_BINDING: str = redis.REFRESH_BINDING
Transport: Any = redis.Transport
transport_module: Any = redis

dumps: Any = json.dumps
loads: Any = json.loads
