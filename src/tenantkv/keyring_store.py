"""Where a keyring is found, how it is made once, and how a pickled namespace finds it again.

Lookup, first match wins:

1. an explicit argument: a `Keyring`, a path, or the document itself;
2. ``TENANTKV_SECRET_KEYRING``: the document itself, for platforms with secret variables (the name
   has SECRET in it, so that Django's debug pages hide it);
3. ``TENANTKV_SECRET_KEYRING_FILE``: a path;
4. ``$TOOL_DATA_DIR/.config/tenantkv/<namespace>.json``, the data directory of a hosted tool;
5. ``${XDG_CONFIG_HOME:-~/.config}/tenantkv/<namespace>.json``.

A keyring that is found and cannot be used is an error, never a reason to look further, and nothing
but `create_keyring` (``tenantkv init``) ever makes one: two hosts that silently made their own
would split the namespace. The working directory, /tmp and the command line are never looked at.

Containers: a path given explicitly (1 and 3) may be a symbolic link, as Kubernetes mounts secrets.
Such mounts are also readable by others (0644), which has to be accepted in so many words, with
``TENANTKV_KEYRING_PERMISSIONS=container`` or ``permissions="container"``. The owner must still be
this user or root, and others must not be able to write.
"""

from __future__ import annotations

import copyreg
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

from tenantkv.errors import (
    ConfigurationError,
    KeyringError,
    KeyringFormatError,
    KeyringNotFoundError,
)
from tenantkv.keyring import ENTROPY_BYTES, Keyring, check_label, check_prefix
from tenantkv.keyring_files import (
    Permissions,
    check_directory,
    check_git,
    create_secret_file,
    drop_gitignore,
    in_git_work_tree,
    make_private_directory,
    read_secret_file,
)
from tenantkv.namespace import Namespace, Placement, find_alive
from tenantkv.protection import Protection

INLINE_VARIABLE = "TENANTKV_SECRET_KEYRING"
FILE_VARIABLE = "TENANTKV_SECRET_KEYRING_FILE"
PERMISSIONS_VARIABLE = "TENANTKV_KEYRING_PERMISSIONS"

_LONGEST_PATH = 4096
_UNSEALED = Protection()

KeyringArgument = Keyring | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class CreatedKeyring:
    """What `create_keyring` found or made.

    Attributes:
        keyring: the identity.
        is_new: whether this call made it.
        is_default: whether it lies where it is looked for without further settings.
    """

    keyring: Keyring
    is_new: bool
    is_default: bool


def load_keyring(
    argument: KeyringArgument | None = None,
    *,
    namespace: str = "default",
    environ: Mapping[str, str] | None = None,
    permissions: Permissions | None = None,
) -> Keyring:
    """Return the keyring of `namespace`; never make one.

    Args:
        argument: a `Keyring`, a path, or a document (text that starts with ``{``).
        namespace: the label. For any but ``"default"`` the document must bear it too, wherever it
            is; for ``"default"`` it must bear it on the default paths.
        environ: the environment; this process's own if left out.
        permissions: ``"strict"`` or ``"container"``; overrides ``TENANTKV_KEYRING_PERMISSIONS``.

    Raises:
        KeyringNotFoundError: there is none; the text says where it was looked for.
        KeyringPermissionError: other users could read or replace it.
        KeyringFormatError: it is damaged, or of another namespace.
        ConfigurationError: an argument or variable has no meaning.
    """
    if isinstance(argument, Keyring):
        return argument
    environ = os.environ if environ is None else environ
    check_label(namespace)
    permissions = _permissions(permissions, environ)
    keyring = _load_explicit(argument, environ, permissions)
    if keyring is not None:
        if namespace != "default":
            _check_namespace(keyring, namespace)
        return keyring
    places = list(_default_places(environ, namespace))
    for place in places:
        try:
            return _load_default(place, namespace)
        except KeyringNotFoundError:
            continue
    looked = ", ".join([INLINE_VARIABLE, FILE_VARIABLE, *map(str, places)])
    option = "" if namespace == "default" else f" --namespace {namespace}"
    raise KeyringNotFoundError(
        f"there is no keyring for the namespace '{namespace}' (looked in {looked}); "
        f"run 'tenantkv init{option}' once to make one, or copy the existing one here"
    )


def create_keyring(
    *,
    namespace: str = "default",
    path: str | os.PathLike[str] | None = None,
    prefix: str | None = None,
    settings: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> CreatedKeyring:
    """Return the keyring of `namespace`, making it if there is none. Safe to run concurrently.

    Args:
        namespace: the label.
        path: where it shall lie; otherwise the file variable or the first default path.
        prefix: a prefix that the tenant already uses, instead of a random one.
        settings: what clients are to do without being told, as texts; see `Protection`.
        environ: the environment; this process's own if left out.

    Raises:
        KeyringError: there is one with another prefix, the place is inside a git work tree that
            does not ignore it, or whatever `load_keyring` raises for what it found.
        ConfigurationError: the prefix or the label cannot be used.
    """
    environ = os.environ if environ is None else environ
    check_label(namespace)
    if prefix is not None:
        check_prefix(prefix)
    target, explicit = _target(path, environ, namespace)
    if path is None:
        try:
            found = load_keyring(namespace=namespace, environ=environ)
        except KeyringNotFoundError:
            pass
        else:
            return _existing(found, prefix, is_default=True)
    elif os.path.lexists(target):
        found = load_keyring(target, namespace=namespace, environ=environ)
        return _existing(found, prefix, is_default=False)
    made = _make(target, explicit=explicit, namespace=namespace, prefix=prefix, settings=settings)
    # Read back by the same road as everybody else, so that what cannot be read is noticed now; and
    # a concurrent creator may have won.
    if explicit:
        keyring = load_keyring(target, namespace=namespace, environ=environ)
    else:
        keyring = _load_default(target, namespace)
    if keyring == made:
        return CreatedKeyring(keyring, is_new=True, is_default=path is None)
    return _existing(keyring, prefix, is_default=path is None)


def restore_namespace(
    fingerprint: str,
    placement: Placement,
    source: str | None,
    path: tuple[str, ...],
    label: str = "default",
    protection: Protection = _UNSEALED,
) -> Namespace:
    """Return the namespace that a pickle refers to; the pickle itself holds no secret.

    Args:
        fingerprint: of the namespace.
        placement: of the namespace.
        source: where the pickling process had read the keyring.
        path: the names of the children on the way to it.
        label: the keyring's namespace label, for hosts that keep it elsewhere.
        protection: of the namespace.

    Raises:
        KeyringNotFoundError: this process has no keyring with that fingerprint.
    """
    alive = find_alive(fingerprint, placement, protection)
    if alive is not None:
        return alive
    failures: list[str] = []
    for place in (source, None):
        try:
            keyring = _load_source(place, label)
        except KeyringError as error:
            failures.append(str(error))
            continue
        root = keyring
        for name in path:
            keyring = keyring.child(name)
        if keyring.fingerprint == fingerprint:
            return Namespace(keyring, placement=placement, path=path, root=root, protection=protection)
        failures.append(f"{place or 'the usual places'}: another identity")
    raise KeyringNotFoundError(
        f"the namespace with fingerprint {fingerprint} cannot be restored here: "
        + "; ".join(dict.fromkeys(failures)),
        source=source,
    )


def _reduce_namespace(namespace: Namespace) -> tuple[object, ...]:
    keyring = namespace.keyring
    reference = (
        namespace.fingerprint,
        namespace.placement,
        keyring.source,
        namespace.path,
        keyring.namespace,
        namespace.protection,
    )
    return restore_namespace, reference


# typeshed wants the reducer's result to be a precise tuple; pickle takes any.
copyreg.pickle(Namespace, _reduce_namespace)  # type: ignore[arg-type]


def _permissions(explicit: Permissions | None, environ: Mapping[str, str]) -> Permissions:
    value = explicit or environ.get(PERMISSIONS_VARIABLE) or "strict"
    if value not in ("strict", "container"):
        name = "permissions" if explicit else PERMISSIONS_VARIABLE
        raise ConfigurationError(f"{name} is 'strict' or 'container'")
    return cast(Permissions, value)


def _load_explicit(
    argument: str | os.PathLike[str] | None, environ: Mapping[str, str], permissions: Permissions
) -> Keyring | None:
    if argument is not None:
        if isinstance(argument, str) and argument.lstrip().startswith("{"):
            return Keyring.parse(argument)
        return _load_path(argument, "the keyring argument", permissions)
    inline = environ.get(INLINE_VARIABLE)
    if inline:
        return _load_inline(inline, INLINE_VARIABLE)
    file = environ.get(FILE_VARIABLE)
    if file:
        return _load_path(file, FILE_VARIABLE, permissions)
    return None


def _load_inline(text: str, variable: str) -> Keyring:
    if not text.lstrip().startswith("{"):
        raise KeyringFormatError(
            f"{variable} does not hold a keyring document; a path belongs into {FILE_VARIABLE}",
            source=f"env:{variable}",
        )
    return Keyring.parse(text, f"env:{variable}")


def _load_path(argument: str | os.PathLike[str], origin: str, permissions: Permissions) -> Keyring:
    text = os.path.expanduser(os.fspath(argument))
    if not _looks_like_path(text) and not os.path.exists(text):
        raise KeyringNotFoundError(
            f"{origin} is neither the path of a file that exists nor a keyring document "
            "(it is not shown, since it may be a secret)"
        )
    path = Path(os.path.abspath(text))
    return Keyring.parse(read_secret_file(path, symlinks=True, permissions=permissions), str(path))


def _looks_like_path(text: str) -> bool:
    """Say whether a text may be repeated in an error.

    Somebody may have given the prefix or the document in place of a path, and base64 has slashes.
    """
    if not text.isprintable() or "{" in text or len(text) > _LONGEST_PATH:
        return False
    directory = os.path.dirname(text)
    return text.endswith(".json") or (len(directory) > 1 and os.path.isdir(directory))


def _load_default(path: Path, namespace: str) -> Keyring:
    text = read_secret_file(path, symlinks=False, permissions="strict")
    check_directory(path.parent)
    keyring = Keyring.parse(text, str(path))
    _check_namespace(keyring, namespace)
    return keyring


def _load_source(source: str | None, label: str) -> Keyring:
    if source is None:
        return load_keyring(namespace=label)
    if source.startswith("env:"):
        variable = source.removeprefix("env:")
        text = os.environ.get(variable)
        if not text:
            raise KeyringNotFoundError(f"{variable} is not set", source=source)
        return _load_inline(text, variable)
    return load_keyring(Path(source))


def _check_namespace(keyring: Keyring, namespace: str) -> None:
    if keyring.namespace != namespace:
        raise KeyringFormatError(
            f"the keyring in {keyring.source or 'the argument'} is of the namespace "
            f"'{keyring.namespace}', not '{namespace}'; one identity for two namespaces would mix "
            "their keys",
            source=keyring.source,
        )


def _default_places(environ: Mapping[str, str], namespace: str) -> Iterator[Path]:
    tool = environ.get("TOOL_DATA_DIR", "")
    config = environ.get("XDG_CONFIG_HOME", "")
    home = environ.get("HOME", "")
    # The XDG specification says to ignore a relative path; it would also depend on the working
    # directory, where nothing may be looked for.
    if tool.startswith("/"):
        yield Path(tool, ".config", "tenantkv", f"{namespace}.json")
    if not config.startswith("/"):
        config = os.path.join(home if home.startswith("/") else _account_home(), ".config")
    yield Path(config, "tenantkv", f"{namespace}.json")


def _account_home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise ConfigurationError(
            f"this user has no home directory; set HOME, or {FILE_VARIABLE} to the keyring's path"
        ) from None


def _target(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], namespace: str
) -> tuple[Path, bool]:
    """Return where a new keyring goes, and whether somebody chose that place explicitly."""
    chosen = os.fspath(path) if path is not None else environ.get(FILE_VARIABLE)
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen))), True
    return next(_default_places(environ, namespace)), False


def _make(
    target: Path, *, explicit: bool, namespace: str, prefix: str | None, settings: Mapping[str, str] | None
) -> Keyring:
    check_git(target)
    is_made_by_us = not explicit or not target.parent.exists()
    make_private_directory(target.parent, ours=not explicit)
    # Never into a directory that somebody else uses: it would hide their files from git. And inside
    # a work tree it would only cover up that the tree's own rules are gone.
    if is_made_by_us and not in_git_work_tree(target.parent):
        drop_gitignore(target.parent)
    created = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    keyring = Keyring.generate(
        os.urandom(ENTROPY_BYTES), prefix=prefix, namespace=namespace, created=created, settings=settings
    )
    create_secret_file(target, keyring.dump())
    return keyring


def _existing(keyring: Keyring, prefix: str | None, *, is_default: bool) -> CreatedKeyring:
    if prefix is not None and prefix != keyring.prefix:
        raise KeyringError(
            f"there is already a keyring with another prefix in {keyring.source} (fingerprint "
            f"{keyring.fingerprint}); to import a second one, give it a --namespace of its own",
            source=keyring.source,
        )
    return CreatedKeyring(keyring, is_new=False, is_default=is_default)
