"""``tenantkv init``, ``show``, ``name`` and ``completion`` as real processes."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import select
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tenantkv.cli.main as cli_main
from tenantkv.cli import completion, output
from tenantkv.cli.formats import FORMATS
from tenantkv.keyring import Keyring

SOURCES = str(Path(cli_main.__file__).parents[2])
PREFIX = "an/old+prefix/of/the/tool=="


class Shell:
    """Runs the command line in a home directory of its own."""

    def __init__(self, place: Path) -> None:
        self.home = place / "home"
        self.cwd = place / "cwd"
        self.home.mkdir(mode=0o700)
        self.cwd.mkdir()
        self.environ = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "LC_ALL": "C.UTF-8",
        }
        self.path = self.home / ".config" / "tenantkv" / "default.json"

    def run(
        self, *words: str, stdin: bytes = b"", module: str = "tenantkv"
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.cwd,
            env=self.environ,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def keyring(self) -> Keyring:
        return Keyring.parse(self.path.read_text())

    def run_on_a_terminal(self, *words: str) -> str:
        """Run with standard output and error on a pseudo-terminal, and return what it shows."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "tenantkv", *words],
            cwd=self.cwd,
            env=self.environ | {"TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and select.select([leader], [], [], 60)[0]:
            try:
                part = os.read(leader, 65536)
            except OSError:  # Linux says EIO when the other end is closed.
                break
            if not part:
                break
            shown += part
        os.close(leader)
        process.wait(timeout=60)
        return shown.decode()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def all_output(*results: subprocess.CompletedProcess[bytes]) -> bytes:
    return b"".join(result.stdout + result.stderr for result in results)


def has_secret(shown: bytes, keyring: Keyring) -> bool:
    fields = json.loads(keyring.dump())
    secrets = [keyring.prefix, fields["naming"], fields["keys"][0]["secret"]]
    return any(secret.encode() in shown for secret in secrets)


class TestInit:
    def test_it_makes_one_identity_and_shows_no_secret(self, shell: Shell) -> None:
        first = shell.run("init")
        text = shell.path.read_text()
        second = shell.run("init", module="tenantkv.cli")
        assert (first.returncode, second.returncode) == (0, 0)
        keyring = shell.keyring()
        for result in (first, second):
            assert keyring.fingerprint.encode() in result.stdout
            assert str(shell.path).encode() in result.stdout
        assert b"made a new identity" in first.stdout and b"nothing changed" in second.stdout
        assert shell.path.read_text() == text
        assert not has_secret(all_output(first, second), keyring)
        assert stat.S_IMODE(shell.path.stat().st_mode) == 0o600
        assert list(shell.cwd.iterdir()) == []

    def test_json(self, shell: Shell) -> None:
        reports = [json.loads(shell.run("init", "--json").stdout) for _ in range(2)]
        assert [report.pop("status") for report in reports] == ["created", "exists"]
        assert (
            reports[0]
            == reports[1]
            == {
                "namespace": "default",
                "source": str(shell.path),
                "fingerprint": shell.keyring().fingerprint,
                "settings": [],
            }
        )

    def test_what_clients_are_to_do_is_written_once(self, shell: Shell) -> None:
        made = json.loads(shell.run("init", "--seal", "--hide-names", "--json").stdout)
        assert made["settings"] == ["seal=yes", "names=hidden"]
        assert shell.run("init", "--seal").returncode == 0
        assert json.loads(shell.run("show", "--json").stdout)["names"] == "hidden"

    def test_an_identity_that_says_otherwise_is_left_alone(self, shell: Shell) -> None:
        shell.run("init")
        before = shell.path.read_bytes()
        result = shell.run("init", "--seal")
        assert result.returncode == 1 and b"says otherwise" in result.stderr
        assert shell.path.read_bytes() == before

    def test_namespaces_are_identities_of_their_own(self, shell: Shell) -> None:
        shell.run("init")
        shell.run("init", "--namespace", "shop")
        other = Keyring.parse((shell.path.parent / "shop.json").read_text())
        assert other.namespace == "shop" and other.prefix != shell.keyring().prefix
        refused = shell.run("init", "--namespace", "../evil\x1b[2J")
        assert refused.returncode == 1 and b"\x1b" not in refused.stderr

    def test_path(self, shell: Shell) -> None:
        result = shell.run("init", "--path", "new/k.json")
        path = shell.cwd / "new" / "k.json"
        assert result.returncode == 0 and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert f"TENANTKV_SECRET_KEYRING_FILE={path}".encode() in result.stderr
        assert not shell.path.exists()

    def test_import_prefix(self, shell: Shell) -> None:
        result = shell.run("init", "--import-prefix", "-", stdin=PREFIX.encode() + b":\n")
        assert result.returncode == 0
        assert shell.keyring().prefix == PREFIX
        again = shell.run("init", "--import-prefix", "-", stdin=PREFIX.encode())
        other = shell.run("init", "--import-prefix", "-", stdin=b"another-prefix-altogether")
        assert (again.returncode, other.returncode) == (0, 1)
        shown = all_output(result, again, other)
        assert PREFIX.encode() not in shown and b"altogether" not in shown
        assert shell.keyring().prefix == PREFIX

    @pytest.mark.parametrize(
        "text",
        [b"", b"\n", b"short", b"two\nlines-of-a-prefix", b"glob*" * 5, b"\xff" * 30, b"x" * 5000],
    )
    def test_a_bad_prefix_makes_nothing(self, text: bytes, shell: Shell) -> None:
        result = shell.run("init", "--import-prefix", "-", stdin=text)
        assert result.returncode == 1
        assert not text.strip() or text.strip() not in result.stderr
        assert b"Traceback" not in result.stderr
        assert list(shell.home.iterdir()) == []

    @pytest.mark.parametrize("words", [["--import-prefix", PREFIX], [f"--import-prefix={PREFIX}"]])
    def test_a_prefix_on_the_command_line_is_refused(self, words: list[str], shell: Shell) -> None:
        result = shell.run("init", *words)
        assert result.returncode == 2 and b"standard input" in result.stderr
        assert PREFIX.encode() not in all_output(result)
        assert list(shell.home.iterdir()) == []

    def test_errors_are_one_line(self, shell: Shell) -> None:
        shell.run("init")
        shell.path.write_text(shell.path.read_text()[:90])
        result = shell.run("init")
        assert result.returncode == 1 and result.stdout == b""
        assert result.stderr.count(b"\n") == 1 and b"half-written" in result.stderr
        shell.path.chmod(0o644)
        assert b"chmod 600" in shell.run("show").stderr

    @pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
    def test_git(self, shell: Shell) -> None:
        subprocess.run(["git", "init", "-q", str(shell.home)], check=True)
        result = shell.run("init")
        assert result.returncode == 1 and b"git work tree" in result.stderr
        assert os.listdir(shell.home) == [".git"]

    def test_sixteen_at_once(self, shell: Shell) -> None:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tenantkv", "init", "--json"],
                cwd=shell.cwd,
                env=shell.environ,
                umask=0,
                stdout=subprocess.PIPE,
            )
            for _ in range(16)
        ]
        reports = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
        assert {report["fingerprint"] for report in reports} == {shell.keyring().fingerprint}
        assert [report["status"] for report in reports].count("created") == 1
        assert stat.S_IMODE(shell.path.stat().st_mode) == 0o600


class TestFormats:
    @pytest.mark.parametrize("words", [["--print-env"], ["--format", "env"]])
    def test_env_can_be_sourced(self, words: list[str], shell: Shell) -> None:
        result = shell.run("init", *words)
        script = result.stdout.decode() + '\nprintf %s "$TENANTKV_SECRET_KEYRING"'
        value = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
        assert Keyring.parse(value.decode()) == shell.keyring()
        assert not has_secret(result.stderr, shell.keyring())
        shell.environ["TENANTKV_SECRET_KEYRING"] = value.decode()
        shell.path.unlink()
        report = json.loads(shell.run("show", "--json").stdout)
        assert report["source"] == "env:TENANTKV_SECRET_KEYRING"

    def test_toolforge_keeps_the_secret_out_of_arguments_and_output(self, shell: Shell) -> None:
        tools = shell.home / "bin"
        tools.mkdir()
        fake = tools / "toolforge"
        fake.write_text('#!/bin/sh\necho "$@" >> "$HOME/arguments"; cat > "$HOME/value"; echo shown\n')
        fake.chmod(0o755)
        result = shell.run("init", "--format", "toolforge")
        environ = shell.environ | {"PATH": f"{tools}:{shell.environ['PATH']}"}
        answer = subprocess.run(["sh"], input=result.stdout, env=environ, capture_output=True, check=True)
        assert answer.stdout == b""
        assert Keyring.parse((shell.home / "value").read_text()) == shell.keyring()
        arguments = (shell.home / "arguments").read_text()
        assert arguments == "envvars create TENANTKV_SECRET_KEYRING\n"

    def test_k8s_holds_the_document(self, shell: Shell) -> None:
        text = shell.run("init", "--format", "k8s", "--namespace", "My_shop").stdout.decode()
        line = next(line for line in text.splitlines() if line.startswith("  My_shop.json: "))
        value = line.partition(": ")[2]
        assert value[0] == value[-1] == "'"
        assert Keyring.parse(value[1:-1]).namespace == "My_shop"
        assert "name: tenantkv-my-shop\n" in text and "PERMISSIONS=container" in text

    @pytest.mark.parametrize("name", ["django", "celery"])
    def test_settings_hold_no_secret_and_are_python(self, name: str, shell: Shell) -> None:
        for words in ([], ["--path", "k.json"], ["--namespace", "shop"]):
            result = shell.run("init", "--format", name, *words)
            compile(result.stdout, name, "exec")
            path = {"--path": shell.cwd / "k.json", "--namespace": shell.path.parent / "shop.json"}
            file = path[words[0]] if words else shell.path
            assert not has_secret(all_output(result), Keyring.parse(file.read_text()))

    def test_one_format_at_a_time(self, shell: Shell) -> None:
        assert shell.run("init", "--print-env", "--json").returncode == 2

    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_a_terminal_is_warned_of_secrets(self, name: str, shell: Shell) -> None:
        shell.run("init")
        shown = shell.run_on_a_terminal("init", "--format", name)
        assert ("warning:" in shown) == has_secret(shown.encode(), shell.keyring())
        assert b"warning" not in shell.run("init", "--format", name).stderr


class TestShow:
    def test_it_tells_what_is_in_use_and_no_secret(self, shell: Shell) -> None:
        shell.run("init")
        shell.environ["TOOL_REDIS_URI"] = "redis://me:hunter2@redis.example:6380/1"
        plain, as_json = shell.run("show"), shell.run("show", "--json")
        keyring = shell.keyring()
        report = json.loads(as_json.stdout)
        assert report["fingerprint"] == keyring.fingerprint
        assert report["source"] == str(shell.path)
        assert report["keys"][0]["id"] == keyring.primary.id
        assert report["prefix_length"] == 44
        assert report["url"] == "redis://me:***@redis.example:6380/1"
        assert report["url_source"] == "TOOL_REDIS_URI"
        for word in (keyring.fingerprint, keyring.primary.id, "TOOL_REDIS_URI", "44 characters"):
            assert word.encode() in plain.stdout
        shown = all_output(plain, as_json)
        assert not has_secret(shown, keyring) and b"hunter2" not in shown

    def test_it_never_makes_an_identity(self, shell: Shell) -> None:
        result = shell.run("show")
        assert result.returncode == 1 and b"run 'tenantkv init'" in result.stderr
        assert list(shell.home.iterdir()) == []

    def test_a_bad_url_is_an_error_without_the_password(self, shell: Shell) -> None:
        shell.run("init")
        shell.environ["REDIS_URL"] = "redis://:hun/ter2@h"
        result = shell.run("show")
        assert result.returncode == 1 and b"REDIS_URL: " in result.stderr
        assert b"hun" not in result.stderr and b"ter2" not in result.stderr

    def test_colours_only_on_a_terminal_that_wants_them(self, shell: Shell) -> None:
        shell.run("init")
        assert b"\x1b[" not in shell.run("show").stdout
        assert "\x1b[" in shell.run_on_a_terminal("show")
        shell.environ["NO_COLOR"] = "1"
        assert "\x1b[" not in shell.run_on_a_terminal("show")


class TestName:
    def test_there_and_back(self, shell: Shell) -> None:
        shell.run("init")
        prefix = shell.keyring().prefix.encode()
        names = [b"lastupdated", b"a:b", b"", b"\xff\x80", b"*"]
        given = b"\n".join(names) + b"\n"
        wire = shell.run("name", "-", stdin=given)
        assert wire.stdout.splitlines() == [prefix + b":" + name for name in names]
        own = shell.run("name", "--own", "-", stdin=wire.stdout)
        assert own.stdout == given

    def test_from_arguments_children_and_placement(self, shell: Shell) -> None:
        shell.run("init")
        child = shell.keyring().child("a").child("b")
        shell.environ["TENANTKV_PLACEMENT"] = "slot"
        result = shell.run("name", "--child", "a", "--child", "b", "k", "ü", "--json")
        assert json.loads(result.stdout) == [
            {"own": name, "wire": f"{{{child.prefix}}}:{name}"} for name in ("k", "ü")
        ]

    def test_channels_have_a_prefix_of_their_own(self, shell: Shell) -> None:
        shell.run("init")
        wire = shell.run("name", "--channel", "events").stdout
        assert wire.endswith(b":events\n") and shell.keyring().prefix.encode() not in wire
        back = shell.run("name", "--channel", "--own", "-", stdin=wire)
        assert back.stdout == b"events\n"

    def test_foreign_names_and_wire_names_on_the_command_line(self, shell: Shell) -> None:
        shell.run("init")
        foreign = shell.run("name", "--own", "-", stdin=b"somebody-elses:key\n")
        assert foreign.returncode == 1 and b"somebody" not in foreign.stderr
        result = shell.run("name", "--own", "x")
        assert result.returncode == 1 and b"standard input" in result.stderr

    def test_a_terminal_gets_no_control_characters(self, shell: Shell) -> None:
        shell.run("init")
        shown = shell.run_on_a_terminal("name", "evil\x1b]0;title\x07\u202e")
        assert "\x1b" not in shown and "\\x1b]0;title\\x07\\u202e" in shown

    def test_help_says_that_it_shows_the_prefix(self, shell: Shell) -> None:
        assert b"SHOWS THE PREFIX" in shell.run("name", "--help").stdout


class TestMain:
    def test_version_help_and_usage(self, shell: Shell) -> None:
        assert shell.run("--version").stdout.startswith(b"tenantkv ")
        assert b"examples:" in shell.run("--help").stdout
        for words in ([], ["unknown"], ["show", "--unknown"], ["init", "--form", "env"]):
            assert shell.run(*words).returncode == 2

    @pytest.mark.parametrize("command", [command.name for command in cli_main.COMMANDS])
    def test_every_help_has_an_example(self, command: str, shell: Shell) -> None:
        result = shell.run(command, "--help")
        assert result.returncode == 0 and f"tenantkv {command}".encode() in result.stdout
        assert b"example" in result.stdout.lower()

    def test_only_the_module_that_runs_is_imported(self, shell: Shell) -> None:
        code = (
            "import sys; from tenantkv.cli.main import build_parser; build_parser('show')\n"
            "print([name for name in sys.modules if name.startswith('tenantkv.cli.')])"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], env=shell.environ, capture_output=True, check=True
        ).stdout
        assert b"tenantkv.cli.show" in shown and b"tenantkv.cli.init" not in shown

    def test_a_reader_that_goes_away(self, shell: Shell) -> None:
        shell.run("init")
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run(
            [sys.executable, "-m", "tenantkv", "show"],
            env=shell.environ,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
        assert process.returncode == 1 and process.stderr == b""

    def test_an_interrupt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(command: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(cli_main, "load", interrupt)
        assert cli_main.main(["show"]) == 130

    def test_a_terminal_without_unicode(self, shell: Shell) -> None:
        shell.environ |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "XDG_CONFIG_HOME": "/tmp/ü"}
        result = shell.run("show")
        assert result.returncode == 1 and b"Traceback" not in result.stderr


class TestCompletion:
    @pytest.fixture
    def scripts(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        there = tuple(command for command in cli_main.COMMANDS if importlib.util.find_spec(command.module))
        monkeypatch.setattr(cli_main, "COMMANDS", there)
        shapes = completion.shapes(cli_main.build_parser())
        return {name: make(shapes) for name, make in completion.SHELLS.items()}

    def test_every_command_and_option_is_there(self, scripts: dict[str, str]) -> None:
        for script in scripts.values():
            for word in ("init", "show", "name", "import-prefix", "child", "toolforge"):
                assert word in script

    @pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            (["ini"], {"init"}),
            (["init", "--fo"], {"--format"}),
            (["init", "--format", "t"], {"toolforge"}),
            (["completion", "z"], {"zsh"}),
        ],
    )
    def test_bash_completes(self, words: list[str], offered: set[str], scripts: dict[str, str]) -> None:
        script = scripts["bash"] + (
            f"\nCOMP_WORDS=(tenantkv {' '.join(words)}); COMP_CWORD={len(words)}"
            '\n_tenantkv; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        answer = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
        assert set(answer.stdout.split()) == offered and answer.stderr == ""

    @pytest.mark.parametrize("name", ["zsh", "fish"])
    def test_the_others_parse(self, name: str, scripts: dict[str, str]) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
        subprocess.run([name, "-n"], input=scripts[name], text=True, check=True)


class TestOutput:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain ü 漢", "plain ü 漢"),
            ("\x1b[31m", "\\x1b[31m"),
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\x9b2J\x7f\0", "\\x9b2J\\x7f\\x00"),
            ("\u202eabc\u2066\u2028\ufeff", "\\u202eabc\\u2066\\u2028\\ufeff"),
            ("\udcff", "\\udcff"),
        ],
    )
    def test_clean(self, text: str, shown: str) -> None:
        assert output.clean(text) == shown

    def test_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table([("a", "1", "x"), ("longer", "22", "y\x1b"), ("only",)])
        assert capsys.readouterr().out == "a       1   x\nlonger  22  y\\x1b\nonly\n"
