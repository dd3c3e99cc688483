"""Runs redis-py's tests with plain redis-py and with our client, and compares test by test.

    python -m tests.redis_py_suite.run             a good part: sync over RESP3, asyncio over RESP2
    python -m tests.redis_py_suite.run --full      every file, protocol and set-up of our client
    python -m tests.redis_py_suite.run --world child --protocol 3 test_pubsub.py

Each run has a server of its own, on a port of this machine's own that nobody else uses. What fails with
our client is tried again, by itself and with plain redis-py: it counts if it fails twice with ours and
passes with theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.redis_py_suite.exemptions import EXEMPTIONS, Exemption, excuse
from tests.redis_py_suite.sources import installed_version, obtain
from tests.servers import RealServer, newest_redis, start_tcp

ROOT = Path(__file__).parents[2]
WORLDS = ("direct", "child", "registry", "slot")
_PATIENCE = 1800.0

QUICK = ("commands", "connection_pool", "encoding", "lock", "pipeline", "pubsub", "scripting")
FULL = (
    *("client", "commands", "connection_pool", "encoding", "function", "hash"),
    *("keyspace_notifications", "lock", "monitor", "pipeline", "pubsub", "scripting"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One set-up to compare.

    Attributes:
        world: how our client is set up; see `swap.WORLDS`.
        protocol: ``"2"``, ``"3"``, or empty for what redis-py chooses.
        asynchronous: the asyncio twins of the files.
        files: names without ``test_`` and ``.py``.
    """

    world: str
    protocol: str
    asynchronous: bool
    files: tuple[str, ...]

    def __str__(self) -> str:
        kind = "asyncio" if self.asynchronous else "sync"
        return f"{kind} RESP{self.protocol or ' unset'} {self.world}"

    def paths(self, home: Path) -> list[str]:
        """Return the files that the installed version has."""
        folder = "tests/test_asyncio" if self.asynchronous else "tests"
        paths = (f"{folder}/test_{name}.py" for name in self.files)
        return [path for path in paths if (home / path).exists()]


@dataclass(slots=True)
class Outcomes:
    """What a run found: for each test its outcome and the text of its failure, and stray keys."""

    tests: dict[str, dict[str, str]]
    strays: dict[str, list[str]]

    def named(self, outcome: str) -> list[str]:
        """Return the tests with this outcome."""
        return [test for test, known in self.tests.items() if known["outcome"] == outcome]


@dataclass(slots=True)
class Verdict:
    """How a job compares.

    Attributes:
        regressions: tests that pass with plain redis-py and fail with ours, with what they say.
        flaky: tests that failed with ours at first and passed when tried again.
        excused: tests that failed as their exemption says.
        strays: keys outside of the namespace, by the test after which they were seen.
    """

    job: Job
    ours: Outcomes
    plain: Outcomes | None = None
    regressions: dict[str, str] = field(default_factory=dict)
    flaky: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    strays: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether our client does as well as redis-py's."""
        return not self.regressions and not self.strays

    def line(self) -> str:
        """Return a row of the report."""
        plain = f"{len(self.plain.named('passed')):5}" if self.plain else "    -"
        return (
            f"{self.job!s:28} plain {plain}  ours {len(self.ours.named('passed')):5}  "
            f"excused {len(self.excused):4}  flaky {len(self.flaky):2}  "
            f"REGRESSIONS {len(self.regressions):3}  strays {len(self.strays):2}"
        )


def run_tests(job: Job, world: str, *, only: Iterable[str] = (), server: str | None = None) -> Outcomes:
    """Run a job's files once, in a process of their own.

    Args:
        world: ``"plain"`` for redis-py's client, or one of our worlds.
        only: the ids of the tests to run; all of them if empty.
        server: path of the server's program.
    """
    home = obtain()
    running = start_tcp(binary=server or newest_redis(), extra_config=_server_config())
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run_on(running, job, world, home, Path(folder), list(only))
    finally:
        running.stop()


def _server_config() -> dict[str, str]:
    # DEBUG ERROR makes the server answer with an error of choice, such as LOADING.
    return {"enable-debug-command": "local"}


def _run_on(server: RealServer, job: Job, world: str, home: Path, folder: Path, only: list[str]) -> Outcomes:
    report, wanted = folder / "report.json", folder / "only.txt"
    wanted.write_text("\n".join(only))
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=native"),
        *("-p", "redis_py_suite.plugin", "-p", "no:cacheprovider", "-p", "no:valkey"),
        # A test that may fail, and passes with plain redis-py, is not to fail unseen with ours.
        "--runxfail",
        *("-m", "not onlycluster and not redismod and not ssl"),
        *("--redis-url", f"{server.tcp_url}/0"),
        *("--protocol", job.protocol, "--suite-world", world, "--suite-report", str(report)),
        *(("--suite-only", str(wanted)) if only else ()),
        *job.paths(home),
    ]
    # The package `tests` is redis-py's there, so ours is found one level below.
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")])
    done = subprocess.run(
        command,
        cwd=home,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"pytest could not run redis-py's tests:\n{done.stdout[-4000:]}")
    return Outcomes(**json.loads(report.read_text()))


def compare(job: Job, *, server: str | None = None, everything: bool = False) -> Verdict:
    """Run a job with our client, and with plain redis-py what is in question.

    Args:
        everything: run all tests with plain redis-py, so that the report can count them.
    """
    ours = run_tests(job, job.world, server=server)
    verdict = Verdict(job, ours, strays=ours.strays)
    suspects = []
    for test in ours.named("failed"):
        if excuse(test, ours.tests[test]["text"], job.world):
            verdict.excused.append(test)
        else:
            suspects.append(test)
    if everything:
        verdict.plain = run_tests(job, "plain", server=server)
        passed = set(verdict.plain.named("passed"))
        unseen = passed.intersection(ours.named("skipped"))
        verdict.regressions = dict.fromkeys(unseen, "skipped with ours")
    if suspects:
        plain = verdict.plain or run_tests(job, "plain", only=suspects, server=server)
        suspects = [test for test in suspects if plain.tests[test]["outcome"] != "failed"]
    if suspects:
        again = run_tests(job, job.world, only=suspects, server=server)
        failed = again.named("failed")
        verdict.flaky = [test for test in suspects if test not in failed]
        verdict.regressions |= {test: again.tests[test]["text"] for test in failed}
    return verdict


def unneeded(verdicts: Iterable[Verdict]) -> list[Exemption]:
    """Return the exemptions that cover tests which ran, none of which failed anywhere."""
    outcomes: dict[Exemption, set[str]] = {exemption: set() for exemption in EXEMPTIONS}
    for verdict in verdicts:
        for exemption, found in outcomes.items():
            if exemption.applies(verdict.job.world):
                tests = verdict.ours.tests.items()
                found |= {known["outcome"] for test, known in tests if exemption.covers(test)}
    return [exemption for exemption, found in outcomes.items() if "passed" in found and "failed" not in found]


def compare_all(jobs: Sequence[Job], *, server: str | None = None, everything: bool = False) -> list[Verdict]:
    """Compare jobs, two at a time."""
    obtain()
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda job: compare(job, server=server, everything=everything), jobs))


def quick_jobs() -> list[Job]:
    """Return what every run of our test suite tries."""
    return [Job("direct", "3", False, QUICK), Job("direct", "2", True, QUICK)]


def full_jobs() -> list[Job]:
    """Return every file over every protocol, and the other set-ups of our client over one each."""
    chosen = ("2", "3", "") if int(installed_version().split(".")[0]) >= 8 else ("2", "3")
    jobs = [Job("direct", protocol, kind, FULL) for kind in (False, True) for protocol in chosen]
    for number, world in enumerate(("child", "registry", "slot")):
        jobs += [Job(world, "32"[number % 2], False, QUICK), Job(world, "23"[number % 2], True, QUICK)]
    return jobs


def report(verdicts: Sequence[Verdict]) -> str:
    """Return what is to be known, the worst last."""
    lines = [verdict.line() for verdict in verdicts]
    lines += [f"no longer needed: {exemption.tests}" for exemption in unneeded(verdicts)]
    for verdict in verdicts:
        lines += [f"flaky: {verdict.job}: {test}" for test in verdict.flaky]
        for test, keys in verdict.strays.items():
            lines.append(f"KEYS OUTSIDE OF THE NAMESPACE: {verdict.job}: {test}: {keys[:5]}")
        for test, text in verdict.regressions.items():
            lines.append(f"\nREGRESSION: {verdict.job}: {test}\n{text[-1500:]}")
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs="*", help="names such as test_pubsub.py")
    parser.add_argument("--full", action="store_true", help="everything")
    parser.add_argument("--world", choices=WORLDS, default="direct")
    parser.add_argument("--protocol", choices=("2", "3", ""), action="append")
    parser.add_argument("--kind", choices=("sync", "asyncio"), action="append")
    parser.add_argument("--server", help="path of the server's program")
    parser.add_argument("--count", action="store_true", help="run all tests with redis-py too")
    options = parser.parse_args()
    names = tuple(Path(file).stem.removeprefix("test_") for file in options.files)
    jobs = full_jobs() if options.full else quick_jobs()
    if names or options.protocol or options.kind or options.world != "direct":
        jobs = [
            Job(options.world, protocol, kind == "asyncio", names or (FULL if options.full else QUICK))
            for protocol in options.protocol or ("2", "3")
            for kind in options.kind or ("sync", "asyncio")
        ]
    verdicts = compare_all(jobs, server=options.server, everything=options.count)
    print(f"redis-py {installed_version()}, Python {sys.version.split()[0]}")
    print(report(verdicts))
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
