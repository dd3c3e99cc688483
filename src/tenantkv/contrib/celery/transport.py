"""The transport behind ``broker_url = "tenantkv://..."``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import kombu

from tenantkv.contrib.celery import stock
from tenantkv.contrib.celery.channel import Channel
from tenantkv.contrib.celery.options import read_options, with_defaults
from tenantkv.contrib.celery.server import Server, resolve, shown
from tenantkv.errors import ConfigurationError

#: What of kombu's Redis transport this package builds on. A release without one of these needs a look
#: before it is used, so that it fails at start and not with the first message.
HOOKS: dict[str, tuple[str, ...]] = {
    "Channel": (
        *("_brpop_read", "_brpop_start", "_create_client", "_delete", "_get", "_get_client", "_get_pool"),
        *("_on_connection_disconnect", "_put", "_put_fanout", "_queue_bind", "_receive_one", "_subscribe"),
        *("close", "conn_or_acquire", "from_transport_options", "get_table", "keyprefix_queue"),
    ),
    "MultiChannelPoller": ("_register_BRPOP", "on_poll_start", "on_readable"),
    "Transport": ("can_parse_url", "register_with_event_loop"),
}


def check_hooks(module: Any = stock.transport_module) -> None:
    """Fail if kombu lacks what this package builds on.

    Raises:
        ConfigurationError: it names what is missing.
    """
    missing = [
        f"{owner}.{name}"
        for owner, names in HOOKS.items()
        for name in names
        if not hasattr(getattr(module, owner, None), name)
    ]
    if missing:
        raise ConfigurationError(
            f"kombu {kombu.__version__} lacks what tenantkv's transport builds on: {', '.join(missing)}; "
            "install the versions of tenantkv[celery]"
        )


class Transport(stock.Transport):
    """kombu's Redis transport, on namespaced connections and with sealed messages.

    Attributes:
        server: whose names are spoken, and where.
        options: what the transport options say.
    """

    Channel = Channel
    can_parse_url = True
    #: Seconds that a worker waits for the bell; kombu waits 1 for messages. It looks for messages without a
    #: bell now and then, and with this an idle worker sends no more commands than it would there.
    brpop_timeout = 3
    supports_batch_publish = False

    def __init__(self, client: Any, **kwargs: Any) -> None:
        check_hooks()
        client.transport_options = with_defaults(client.transport_options)
        options = client.transport_options
        self.options = read_options(options)
        self.server: Server = resolve(urls_of(client), options, tls=client.ssl)
        if options.get("global_keyprefix"):
            self.server = self.server.child(str(options["global_keyprefix"]))
        super().__init__(client, **kwargs)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL as it may be shown."""
        return uri if include_password else shown(uri)

    def driver_version(self) -> str:
        """Return redis-py's version, and ours."""
        import tenantkv

        return f"{super().driver_version()} (tenantkv {tenantkv.__version__})"


def urls_of(client: Any) -> list[str]:
    """Return the URL of a kombu connection; of several Sentinels, one each."""
    hostname = client.hostname or ""
    alternates = [str(url) for url in client.alt or ()]
    if alternates and "sentinel" in alternates[0].partition("://")[0]:
        return alternates
    if "://" in hostname:
        return [hostname]
    # kombu took the URL apart, as it does when it switches to an alternate.
    user = quote(client.userid or "", safe="")
    if client.password:
        user += ":" + quote(client.password, safe="")
    at = f"{user}@" if user else ""
    port = f":{client.port}" if client.port and ":" not in hostname else ""
    database = (client.virtual_host or "").strip("/")
    return [f"tenantkv://{at}{hostname}{port}" + (f"/{database}" if database else "")]
