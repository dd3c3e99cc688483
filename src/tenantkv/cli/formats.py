"""What `tenantkv init --format` writes for other places. Pure: a keyring in, text out.

``env``, ``k8s`` and ``toolforge`` hold the keyring itself; ``django`` and ``celery`` only refer to
it. A compact document has neither single quotes nor line breaks, so that it can stand in single
quotes in a shell, in a .env file and in YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tenantkv.keyring import Keyring
from tenantkv.keyring_store import FILE_VARIABLE, INLINE_VARIABLE

SECRET_FORMATS = frozenset({"env", "k8s", "toolforge"})


def render(name: str, keyring: Keyring, *, is_default: bool) -> str:
    """Return the text of that format.

    Args:
        name: one of `FORMATS`.
        keyring: what it is about.
        is_default: whether the keyring is found without further settings.
    """
    return FORMATS[name](keyring, is_default)


def _env(keyring: Keyring, is_default: bool) -> str:
    lines = [f"{INLINE_VARIABLE}='{keyring.dump(compact=True)}'"]
    if keyring.namespace != "default":
        lines.append(f"TENANTKV_NAMESPACE='{keyring.namespace}'")
    return "\n".join(lines)


def _k8s(keyring: Keyring, is_default: bool) -> str:
    # A resource's name has no capitals and no underscore.
    name = f"tenantkv-{keyring.namespace.lower().replace('_', '-').replace('.', '-').strip('-')}"
    file = f"{keyring.namespace}.json"
    return f"""\
# kubectl apply -f -
apiVersion: v1
kind: Secret
metadata:
  name: {name}
type: Opaque
stringData:
  {file}: '{keyring.dump(compact=True)}'
# In the pod: mount the secret at /etc/tenantkv, and set in the container's environment
#   {FILE_VARIABLE}=/etc/tenantkv/{file}
#   TENANTKV_KEYRING_PERMISSIONS=container"""


def _toolforge(keyring: Keyring, is_default: bool) -> str:
    # Through standard input, since other users of the host can read arguments; and the command
    # would print the value.
    lines = [
        "# tenantkv init --format toolforge | sh",
        f"toolforge envvars create {INLINE_VARIABLE} >/dev/null <<'KEYRING'",
        keyring.dump(compact=True),
        "KEYRING",
    ]
    if keyring.namespace != "default":
        lines.append(f"toolforge envvars create TENANTKV_NAMESPACE {keyring.namespace}")
    return "\n".join(lines)


def _django(keyring: Keyring, is_default: bool) -> str:
    return f"""\
# settings.py: Django's own Redis cache on a namespaced pool. cache.clear() is refused; LOCATION is yours.
{_reference(keyring, is_default)}\
CACHES = {{
    "default": {{
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://localhost:6379/0",
        "OPTIONS": {{"pool_class": "tenantkv.NamespacedConnectionPool"}},
    }},
}}"""


def _celery(keyring: Keyring, is_default: bool) -> str:
    return f"""\
# celeryconfig.py: tasks find this identity by tenantkv.connect(). Celery's own messages (broker_url,
# result_backend) do not go through it: keep those off a shared server.
{_reference(keyring, is_default)}""".rstrip()


def _reference(keyring: Keyring, is_default: bool) -> str:
    if is_default and keyring.namespace == "default":
        return f"# keyring {keyring.fingerprint}; no secret belongs into this file\n"
    lines = ["import os", ""]
    if not is_default:
        lines.append(f'os.environ.setdefault("{FILE_VARIABLE}", {keyring.source!r})')
    if keyring.namespace != "default":
        lines.append(f'os.environ.setdefault("TENANTKV_NAMESPACE", "{keyring.namespace}")')
    return "\n".join(lines) + "\n\n"


FORMATS: Mapping[str, Callable[[Keyring, bool], str]] = {
    "env": _env,
    "django": _django,
    "celery": _celery,
    "k8s": _k8s,
    "toolforge": _toolforge,
}
