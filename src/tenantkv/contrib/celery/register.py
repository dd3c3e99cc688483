"""What kombu loads when it starts: this is how ``broker_url = "tenantkv://..."`` is understood.

kombu has no entry points for transports, but it loads those for serializers while its own serialization
module is being imported, before it looks at any URL. So this module is one of these, and it must not
import anything that imports kombu's serialization in turn.

The serializer itself is kombu's JSON under a content type of ours. Whether a message is genuine is
decided before any serializer sees it, by the envelope around the whole of it.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES

CONTENT_TYPE = "application/x-tenantkv-json"
TRANSPORT = "tenantkv.contrib.celery.transport:Transport"

TRANSPORT_ALIASES.setdefault("tenantkv", TRANSPORT)


def dumps(value: Any) -> Any:
    """Return a value as kombu's JSON."""
    from kombu.utils import json

    encode: Any = json.dumps
    return encode(value)


def loads(text: Any) -> Any:
    """Return the value of kombu's JSON."""
    from kombu.utils import json

    decode: Any = json.loads
    return decode(text)


#: What the entry point in ``kombu.serializers`` yields: encoder, decoder, content type, encoding.
serializer_args = (dumps, loads, CONTENT_TYPE, "utf-8")
