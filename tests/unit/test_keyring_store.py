"""Where keyrings are found, who may read them, and that one home directory ends with one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantkv import keyring_files, keyring_store
from tenantkv.errors import (
    ConfigurationError,
    KeyringError,
    KeyringFormatError,
    KeyringNotFoundError,
    KeyringPermissionError,
    TenantKVError,
)
from tenantkv.keyring import Keyring
from tenantkv.keyring_store import create_keyring, load_keyring, restore_namespace
from tenantkv.namespace import Namespace

KEYRING = Keyring.generate(bytes(range(96)))
OTHER = Keyring.generate(bytes(range(96, 192)))
INLINE = "TENANTKV_SECRET_KEYRING"
FILE = "TENANTKV_SECRET_KEYRING_FILE"
SOURCES = str(Path(keyring_store.__file__).parents[1])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    return place


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home)}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def put(path: Path, text: str = KEYRING.dump(), mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(text)
    path.chmod(mode)
    return path


def usual(home: Path, namespace: str = "default") -> Path:
    return home / ".config" / "tenantkv" / f"{namespace}.json"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def git(directory: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(directory), *arguments], check=True, capture_output=True)


def no_secret(error: BaseException, *keyrings: Keyring) -> bool:
    shown = "".join(traceback.format_exception(error))
    return not any(keyring.prefix in shown for keyring in keyrings or (KEYRING, OTHER))


class TestLookup:
    def test_order(self, home: Path, tmp_path: Path) -> None:
        """Five places, each hidden by the one before."""
        rings = [Keyring.generate(bytes([number]) * 96) for number in range(5)]
        tool, config = tmp_path / "tool", tmp_path / "xdg"
        put(config / "tenantkv" / "default.json", rings[0].dump())
        environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(config)}
        assert load_keyring(environ=environ) == rings[0]
        put(usual(tool), rings[1].dump())
        environ["TOOL_DATA_DIR"] = str(tool)
        assert load_keyring(environ=environ) == rings[1]
        environ[FILE] = str(put(tmp_path / "explicit", rings[2].dump()))
        assert load_keyring(environ=environ) == rings[2]
        environ[INLINE] = rings[3].dump(compact=True)
        assert load_keyring(environ=environ) == rings[3]
        assert load_keyring(rings[4], environ=environ) is rings[4]
        assert load_keyring(rings[4].dump(), environ=environ) == rings[4]
        assert load_keyring(environ[FILE], environ=environ) == rings[2]

    def test_source_is_a_place_and_never_content(self, home: Path, environ: dict[str, str]) -> None:
        path = put(usual(home))
        assert load_keyring(environ=environ).source == str(path)
        assert load_keyring(environ={INLINE: KEYRING.dump()}).source == f"env:{INLINE}"
        assert load_keyring(KEYRING.dump(), environ={}).source is None
        assert load_keyring(path, environ={}).source == str(path)

    def test_empty_variables_count_as_unset(self, home: Path, environ: dict[str, str]) -> None:
        put(usual(home))
        empty = dict.fromkeys([INLINE, FILE, "XDG_CONFIG_HOME", "TOOL_DATA_DIR"], "")
        assert load_keyring(environ=environ | empty) == KEYRING

    def test_relative_places_are_ignored(
        self, tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing may depend on the working directory."""
        put(usual(tmp_path / "cwd"))
        put(tmp_path / "cwd" / ".config" / "tenantkv" / "default.json")
        monkeypatch.chdir(tmp_path / "cwd")
        relative = {"XDG_CONFIG_HOME": ".config", "TOOL_DATA_DIR": "."}
        with pytest.raises(KeyringNotFoundError):
            load_keyring(environ=environ | relative)

    def test_missing_says_how_to_make_one_and_makes_none(self, home: Path, environ: dict[str, str]) -> None:
        with pytest.raises(KeyringNotFoundError, match="tenantkv init --namespace shop") as caught:
            load_keyring(environ=environ, namespace="shop")
        assert str(usual(home, "shop")) in str(caught.value)
        assert list(home.iterdir()) == []

    def test_a_bad_keyring_is_no_reason_to_look_further(self, home: Path, tmp_path: Path) -> None:
        put(usual(home))
        tool = tmp_path / "tool"
        put(usual(tool), KEYRING.dump()[:100])
        environ = {"HOME": str(home), "TOOL_DATA_DIR": str(tool)}
        with pytest.raises(KeyringFormatError, match="half-written"):
            load_keyring(environ=environ)
        with pytest.raises(KeyringNotFoundError):
            load_keyring(environ=environ | {FILE: str(tmp_path / "missing.json")})
        with pytest.raises(KeyringFormatError):
            load_keyring(environ=environ | {INLINE: "/a/path"})

    def test_another_namespaces_keyring_is_refused(self, home: Path, environ: dict[str, str]) -> None:
        put(usual(home, "shop"))
        with pytest.raises(KeyringFormatError, match="'default', not 'shop'"):
            load_keyring(environ=environ, namespace="shop")
        with pytest.raises(KeyringFormatError, match="'default', not 'shop'"):
            load_keyring(environ={INLINE: KEYRING.dump()}, namespace="shop")
        with pytest.raises(ConfigurationError, match="label"):
            load_keyring(environ=environ, namespace="../shop")

    @pytest.mark.parametrize("text", [KEYRING.prefix, KEYRING.dump()[1:], "/" + KEYRING.prefix])
    def test_a_secret_in_place_of_a_path_is_not_repeated(self, text: str, environ: dict[str, str]) -> None:
        for arguments, variables in (((text,), {}), ((), {FILE: text}), ((), {INLINE: text})):
            with pytest.raises(KeyringError) as caught:
                load_keyring(*arguments, environ=environ | variables)
            assert no_secret(caught.value)


class TestReading:
    """The bits of the open file decide, so these hold for root too, who may read everything."""

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o644, 0o777, 0o610, 0o620])
    def test_open_to_others_is_refused(self, mode: int, home: Path, environ: dict[str, str]) -> None:
        put(usual(home), mode=mode)
        with pytest.raises(KeyringPermissionError, match="chmod 600") as caught:
            load_keyring(environ=environ)
        assert no_secret(caught.value)
        with pytest.raises(KeyringPermissionError):
            load_keyring(usual(home), environ={})

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_closed_to_others_is_read(self, mode: int, home: Path, environ: dict[str, str]) -> None:
        put(usual(home), mode=mode)
        assert load_keyring(environ=environ) == KEYRING

    def test_a_symbolic_link_is_refused_on_a_default_path(
        self, home: Path, environ: dict[str, str], tmp_path: Path
    ) -> None:
        usual(home).parent.mkdir(parents=True)
        usual(home).symlink_to(put(tmp_path / "real.json"))
        with pytest.raises(KeyringPermissionError, match="symbolic link"):
            load_keyring(environ=environ)
        assert load_keyring(environ={FILE: str(usual(home))}) == KEYRING

    def test_a_fifo_does_not_hang(self, home: Path, environ: dict[str, str]) -> None:
        def hangs(signum: int, frame: object) -> None:
            raise AssertionError("opening the FIFO waits for a writer")

        usual(home).parent.mkdir(parents=True)
        os.mkfifo(usual(home), 0o600)
        before = signal.signal(signal.SIGALRM, hangs)
        signal.alarm(20)
        try:
            with pytest.raises(KeyringPermissionError, match="regular"):
                load_keyring(environ=environ)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def test_directories_and_devices_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").mkdir()
        for path in (tmp_path / "x.json", Path("/dev/null"), Path("/dev/zero")):
            with pytest.raises(KeyringPermissionError, match="regular"):
                load_keyring(path, environ={})

    def test_size_and_encoding(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.json", "x" * (keyring_files.LARGEST_DOCUMENT_BYTES + 1))
        with pytest.raises(KeyringFormatError, match="larger"):
            load_keyring(path, environ={})
        path.write_bytes(b"\xff\xfe{}")
        with pytest.raises(KeyringFormatError, match="UTF-8"):
            load_keyring(path, environ={})
        path.write_bytes(b"")
        with pytest.raises(KeyringFormatError, match="empty"):
            load_keyring(path, environ={})

    def test_somebody_elses_file_is_refused(
        self, home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(usual(home))
        real = os.fstat

        def foreign(descriptor: int) -> os.stat_result:
            fields = list(real(descriptor))
            fields[stat.ST_UID] = os.geteuid() + 1
            return os.stat_result(fields)

        monkeypatch.setattr(os, "fstat", foreign)
        with pytest.raises(KeyringPermissionError, match="belongs to user"):
            load_keyring(environ=environ)
        with pytest.raises(KeyringPermissionError, match="belongs to user"):
            load_keyring(usual(home), environ={}, permissions="container")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable_is_said_so(self, home: Path, environ: dict[str, str]) -> None:
        put(usual(home), mode=0)
        with pytest.raises(KeyringPermissionError, match="cannot open"):
            load_keyring(environ=environ)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_a_file_given_away_is_refused(self, home: Path, environ: dict[str, str]) -> None:
        os.chown(put(usual(home)), 12345, 12345)
        with pytest.raises(KeyringPermissionError, match="12345"):
            load_keyring(environ=environ)

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o720])
    def test_a_directory_that_others_can_write_to_is_refused(
        self, mode: int, home: Path, environ: dict[str, str]
    ) -> None:
        put(usual(home)).parent.chmod(mode)
        with pytest.raises(KeyringPermissionError, match="directory"):
            load_keyring(environ=environ)


class TestContainer:
    def test_a_kubernetes_mount_needs_to_be_accepted(self, tmp_path: Path) -> None:
        """..data is a link to a dated directory, and the file a link through it, mode 0644."""
        put(tmp_path / "..2026" / "default.json", mode=0o644)
        (tmp_path / "..data").symlink_to("..2026")
        (tmp_path / "default.json").symlink_to("..data/default.json")
        environ = {FILE: str(tmp_path / "default.json")}
        with pytest.raises(KeyringPermissionError, match="PERMISSIONS=container"):
            load_keyring(environ=environ)
        assert load_keyring(environ=environ, permissions="container") == KEYRING
        accepted = environ | {"TENANTKV_KEYRING_PERMISSIONS": "container"}
        assert load_keyring(environ=accepted) == KEYRING
        with pytest.raises(KeyringPermissionError):
            load_keyring(environ=accepted, permissions="strict")

    @pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
    def test_writable_by_others_is_refused_all_the_same(self, mode: int, tmp_path: Path) -> None:
        path = put(tmp_path / "a.json", mode=mode)
        with pytest.raises(KeyringPermissionError):
            load_keyring(path, environ={}, permissions="container")

    def test_default_paths_stay_strict(self, home: Path, environ: dict[str, str]) -> None:
        put(usual(home), mode=0o644)
        with pytest.raises(KeyringPermissionError):
            load_keyring(environ=environ, permissions="container")

    def test_an_unknown_value_is_refused(self, environ: dict[str, str]) -> None:
        with pytest.raises(ConfigurationError, match="'strict' or 'container'"):
            load_keyring(environ=environ | {"TENANTKV_KEYRING_PERMISSIONS": "lax"})


class TestCreate:
    @pytest.mark.usefixtures("open_umask")
    def test_modes_do_not_depend_on_the_umask(self, home: Path, environ: dict[str, str]) -> None:
        made = create_keyring(environ=environ)
        assert made.is_new and made.is_default
        path = usual(home)
        assert mode_of(path) == 0o600
        assert mode_of(path.parent) == 0o700
        assert mode_of(path.parent.parent) == 0o700
        assert (path.parent / ".gitignore").read_text().splitlines()[-1] == "*"
        assert sorted(os.listdir(path.parent)) == [".gitignore", "default.json"]
        assert load_keyring(environ=environ) == made.keyring

    def test_a_umask_that_takes_everything(self, home: Path, environ: dict[str, str]) -> None:
        usual(home).parent.mkdir(parents=True, mode=0o700)
        (usual(home).parent / ".gitignore").write_text("*\n")
        before = os.umask(0o777)
        try:
            create_keyring(environ=environ)
        finally:
            os.umask(before)
        assert mode_of(usual(home)) == 0o600

    def test_it_is_random_and_idempotent(self, home: Path, environ: dict[str, str]) -> None:
        first = create_keyring(environ=environ)
        text = usual(home).read_text()
        second = create_keyring(environ=environ)
        assert (first.is_new, second.is_new) == (True, False)
        assert first.keyring == second.keyring and usual(home).read_text() == text
        other = create_keyring(environ=environ, namespace="shop")
        assert other.is_new and other.keyring.prefix != first.keyring.prefix
        assert other.keyring.namespace == "shop"
        assert json.loads(text)["keys"][0]["created"].endswith("Z")

    def test_an_open_directory_of_ours_is_closed(self, home: Path, environ: dict[str, str]) -> None:
        usual(home).parent.mkdir(parents=True)
        usual(home).parent.chmod(0o2777)
        create_keyring(environ=environ)
        assert mode_of(usual(home).parent) & 0o777 == 0o700

    def test_somebody_elses_directory_is_left_as_it_is(self, tmp_path: Path, environ: dict[str, str]) -> None:
        place = tmp_path / "etc"
        place.mkdir()
        place.chmod(0o755)
        made = create_keyring(environ=environ, path=place / "k.json")
        assert made.is_new and not made.is_default
        assert mode_of(place) == 0o755 and os.listdir(place) == ["k.json"]
        place.chmod(0o777)
        with pytest.raises(KeyringPermissionError, match="directory"):
            create_keyring(environ=environ, path=place / "l.json")

    def test_an_existing_identity_wins_wherever_it_is(self, environ: dict[str, str]) -> None:
        made = create_keyring(environ=environ | {INLINE: KEYRING.dump()})
        assert not made.is_new and made.keyring == KEYRING
        assert not os.path.exists(os.path.join(environ["HOME"], ".config"))

    def test_the_file_variable_tells_where(self, tmp_path: Path, environ: dict[str, str]) -> None:
        path = tmp_path / "new" / "k.json"
        made = create_keyring(environ=environ | {FILE: str(path)})
        assert made.is_new and made.is_default and mode_of(path) == 0o600
        assert (path.parent / ".gitignore").exists()

    def test_importing_a_prefix(self, environ: dict[str, str]) -> None:
        prefix = "an-old-prefix-of-the-tool"
        made = create_keyring(environ=environ, prefix=prefix)
        assert made.keyring.prefix == prefix
        assert not create_keyring(environ=environ, prefix=prefix).is_new
        with pytest.raises(KeyringError, match="another prefix") as caught:
            create_keyring(environ=environ, prefix="another-prefix-entirely")
        assert "another-prefix-entirely" not in str(caught.value)
        assert prefix not in str(caught.value)

    @pytest.mark.parametrize("text", ["", KEYRING.dump()[:-20], "{}", "not json"])
    def test_a_damaged_file_is_never_overwritten(
        self, text: str, home: Path, environ: dict[str, str]
    ) -> None:
        put(usual(home), text)
        with pytest.raises(KeyringFormatError):
            create_keyring(environ=environ)
        assert usual(home).read_text() == text

    def test_a_dangling_link_is_not_written_through(
        self, home: Path, environ: dict[str, str], tmp_path: Path
    ) -> None:
        usual(home).parent.mkdir(parents=True, mode=0o700)
        usual(home).symlink_to(tmp_path / "stolen.json")
        with pytest.raises(KeyringPermissionError):
            create_keyring(environ=environ)
        with pytest.raises(KeyringError):
            create_keyring(environ=environ, path=usual(home))
        assert not (tmp_path / "stolen.json").exists()

    def test_a_file_where_a_directory_should_be(self, home: Path, environ: dict[str, str]) -> None:
        (home / ".config").write_text("")
        with pytest.raises(KeyringError, match="cannot make the directory"):
            create_keyring(environ=environ)

    def test_a_full_disk_leaves_nothing(
        self, home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(KeyringError, match="No space"):
            create_keyring(environ=environ)
        assert os.listdir(usual(home).parent) == [".gitignore"]

    def test_the_loser_of_a_race_takes_the_winners(
        self, home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other one comes between our look and our link."""
        real = keyring_files.create_secret_file

        def late(path: Path, text: str) -> bool:
            put(path, KEYRING.dump())
            return real(path, text)

        monkeypatch.setattr(keyring_store, "create_secret_file", late)
        made = create_keyring(environ=environ)
        assert not made.is_new and made.keyring == KEYRING
        assert sorted(os.listdir(usual(home).parent)) == [".gitignore", "default.json"]

    def test_sixteen_processes_end_with_one_identity(self, home: Path) -> None:
        code = (
            "import os, sys; os.umask(0); sys.stdin.read()\n"
            "from tenantkv.keyring_store import create_keyring as c\n"
            "made = c(); print(made.keyring.fingerprint, made.is_new)"
        )
        environ = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": SOURCES}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                env=environ,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(16)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        lines = []
        for process in processes:
            assert process.stdout is not None
            lines.append(process.stdout.read().split())
            process.stdout.close()
            assert process.wait() == 0
        assert len({fingerprint for fingerprint, _ in lines}) == 1
        assert [new for _, new in lines].count("True") == 1
        assert mode_of(usual(home)) == 0o600
        assert sorted(os.listdir(usual(home).parent)) == [".gitignore", "default.json"]
        assert load_keyring(environ=environ).fingerprint == lines[0][0]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
class TestGit:
    @pytest.fixture
    def tree(self, home: Path) -> Path:
        git(home, "init", "-q")
        return home

    def test_a_work_tree_that_does_not_ignore_it_is_refused_before_anything_is_made(
        self, tree: Path, environ: dict[str, str]
    ) -> None:
        with pytest.raises(KeyringError, match="git work tree"):
            create_keyring(environ=environ)
        assert os.listdir(tree) == [".git"]

    @pytest.mark.parametrize(
        "rule", [".config/", ".config/tenantkv/", ".config/tenantkv/*", "*.json", "default.json"]
    )
    def test_an_ignored_place_is_accepted(self, rule: str, tree: Path, environ: dict[str, str]) -> None:
        (tree / ".gitignore").write_text(rule + "\n")
        assert create_keyring(environ=environ).is_new
        answer = subprocess.run(
            ["git", "-C", str(tree), "status", "--porcelain", "-uall"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.split() == ["??", ".gitignore"]

    def test_our_own_gitignore_does_not_count(self, home: Path, environ: dict[str, str]) -> None:
        create_keyring(environ=environ)
        git(home, "init", "-q")
        with pytest.raises(KeyringError, match="git work tree"):
            create_keyring(environ=environ, namespace="second")
        assert not create_keyring(environ=environ).is_new

    def test_a_negated_rule(self, tree: Path, environ: dict[str, str]) -> None:
        (tree / ".gitignore").write_text("*.json\n!default.json\n")
        with pytest.raises(KeyringError, match="git work tree"):
            create_keyring(environ=environ)

    def test_a_tracked_file_is_not_ignored(self, tree: Path, environ: dict[str, str]) -> None:
        (tree / ".gitignore").write_text("*.json\n")
        put(usual(tree), "old")
        git(tree, "add", "-f", str(usual(tree)))
        usual(tree).unlink()
        with pytest.raises(KeyringError, match="git work tree"):
            create_keyring(environ=environ)

    def test_a_link_into_a_work_tree(self, tmp_path: Path, environ: dict[str, str]) -> None:
        repository = tmp_path / "dotfiles"
        repository.mkdir()
        git(repository, "init", "-q")
        os.symlink(repository, os.path.join(environ["HOME"], ".config"))
        with pytest.raises(KeyringError, match="git work tree"):
            create_keyring(environ=environ)

    def test_variables_of_a_hook_do_not_mislead(
        self, tree: Path, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "other"
        other.mkdir()
        git(other, "init", "-q")
        (other / ".gitignore").write_text("*\n")
        monkeypatch.setenv("GIT_DIR", str(other / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(other))
        with pytest.raises(KeyringError, match="git work tree"):
            create_keyring(environ=environ)

    def test_a_dot_git_that_is_no_repository(self, home: Path, environ: dict[str, str]) -> None:
        (home / ".git").mkdir()
        assert create_keyring(environ=environ).is_new


def test_without_git_a_work_tree_is_refused(
    home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".git").mkdir()
    (home / ".gitignore").write_text("*\n")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(KeyringError, match="git cannot be asked"):
        create_keyring(environ=environ)


class TestPickle:
    @pytest.fixture
    def place(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HOME", str(home))
        for name in (INLINE, FILE, "XDG_CONFIG_HOME", "TOOL_DATA_DIR"):
            monkeypatch.delenv(name, raising=False)
        return put(usual(home))

    def restored(self, data: bytes) -> str:
        """Load a pickle in a fresh process, and say which wire name it gives."""
        code = (
            "import pickle, sys, tenantkv.keyring_store\n"
            "space = pickle.load(sys.stdin.buffer)\n"
            "print(space.wire_name(b'x').decode(), space.path, space.placement)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code],
            input=data,
            capture_output=True,
            env=dict(os.environ) | {"PYTHONPATH": SOURCES},
            check=False,
        )
        return (answer.stdout or answer.stderr).decode()

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_a_reference_without_secrets(self, place: Path, protocol: int) -> None:
        space = Namespace(load_keyring(), placement="slot").child("a").child("b")
        data = pickle.dumps(space, protocol)
        for keyring in (KEYRING, space.keyring):
            assert keyring.prefix.encode() not in data
            assert keyring.naming not in data
            assert keyring.primary.secret not in data
        assert pickle.loads(data) is space

    def test_another_process_finds_it_again(self, place: Path) -> None:
        space = Namespace(load_keyring(), placement="slot").child("a").child("b")
        wire = space.wire_name(b"x").decode()
        assert self.restored(pickle.dumps(space)) == f"{wire} ('a', 'b') slot\n"

    def test_another_host_keeps_it_elsewhere(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        space = Namespace(load_keyring())
        data = pickle.dumps(space)
        place.unlink()
        monkeypatch.setenv(INLINE, KEYRING.dump())
        assert self.restored(data).startswith(space.wire_name(b"x").decode())

    def test_from_the_environment(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(INLINE, OTHER.dump())
        data = pickle.dumps(Namespace(load_keyring()))
        assert OTHER.prefix.encode() not in data and INLINE.encode() in data
        assert self.restored(data).startswith(OTHER.prefix)

    def test_another_identity_is_an_error(self, place: Path) -> None:
        data = pickle.dumps(Namespace(load_keyring()).child("only here"))
        put(place, OTHER.dump())
        said = self.restored(data)
        assert "KeyringNotFoundError" in said and "another identity" in said
        assert OTHER.prefix not in said and KEYRING.prefix not in said

    def test_a_missing_keyring_is_an_error(self, place: Path) -> None:
        place.unlink()
        with pytest.raises(KeyringNotFoundError, match="0123456789abcdef"):
            restore_namespace("0123456789abcdef", "spread", str(place), ())


def test_every_error_of_this_file_has_the_one_root() -> None:
    assert issubclass(KeyringError, TenantKVError)
