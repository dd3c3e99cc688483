"""Tests of redis-py's that fail through our client, and why they may.

An exemption names tests by a pattern and says what their failure must show; a test that fails in another
way is not excused by it. The comparison also reports an exemption whose tests all pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

import redis


@dataclass(frozen=True, slots=True)
class Exemption:
    """Tests that may fail.

    Attributes:
        reason: why, for a reader of the report.
        shows: a regular expression that is found in the failure's text.
        tests: patterns for ``file.py::test_name``, without directory, class and parameters.
        before: the first major version of redis-py that needs it no longer.
        worlds: the set-ups of our client that need it; all if empty.
    """

    reason: str
    shows: str
    tests: tuple[str, ...]
    before: int = 99
    worlds: tuple[str, ...] = ()

    def applies(self, world: str) -> bool:
        """Whether it is meant for the installed redis-py and a set-up of our client."""
        meant = not self.worlds or world in self.worlds
        return meant and int(redis.__version__.split(".")[0]) < self.before

    def covers(self, test: str) -> bool:
        """Whether the test with this id is one of them."""
        name = short(test)
        return any(fnmatchcase(name, pattern) for pattern in self.tests)

    def excuses(self, test: str, text: str) -> bool:
        """Whether a test may fail in the way that `text` tells."""
        return self.covers(test) and re.search(self.shows, text) is not None


def short(test: str) -> str:
    """Return ``file.py::test_name`` of a test's id."""
    path, _, name = test.partition("::")
    return f"{path.rpartition('/')[2]}::{name.partition('[')[0].rpartition('::')[2]}"


def _refused(commands: str, reason: str, *tests: str) -> Exemption:
    return Exemption(reason, rf"\b(?:{commands}) refused", tests)


_SERVER = "it changes or shows the server and its users, which are everybody's"
_NEIGHBOURS = "it shows or disturbs other tenants' connections, commands and keys"

EXEMPTIONS = (
    _refused("ACL [A-Z]+|FLUSHALL", _SERVER, "test_commands.py::test_acl_*"),
    _refused(
        "CONFIG (GET|SET|RESETSTAT|REWRITE)",
        _SERVER,
        "test_commands.py::test_config_*",
        "test_commands.py::test_auth",
        "test_commands.py::test_bgrewriteaof",
    ),
    _refused(
        "BGSAVE|BGREWRITEAOF|SAVE|REPLICAOF|SLAVEOF|DEBUG|SHUTDOWN|MODULE [A-Z]+",
        _SERVER,
        "test_commands.py::test_bg*",
        "test_commands.py::test_replicaof",
        "test_commands.py::test_module*",
    ),
    _refused(
        "CLIENT (LIST|KILL|PAUSE|UNPAUSE|UNBLOCK|NO-EVICT)|ACL SETUSER",
        _NEIGHBOURS,
        "test_commands.py::test_client_kill*",
        "test_commands.py::test_client_list*",
        "test_commands.py::test_client_pause*",
        "test_commands.py::test_client_unpause",
        "test_commands.py::test_client_unblock",
        "test_commands.py::test_client_no_evict",
        "test_pubsub.py::test_connection_error_raised_when_connection_dies",
    ),
    _refused(
        "SLOWLOG|CONFIG GET",
        _NEIGHBOURS,
        "test_commands.py::test_slowlog_*",
    ),
    _refused(
        "LATENCY [A-Z]+|MEMORY [A-Z-]+|PUBSUB NUMPAT",
        _NEIGHBOURS,
        "test_commands.py::test_latency_*",
        "test_commands.py::test_memory_malloc_stats",
        "test_commands.py::test_memory_stats",
        "test_commands.py::test_memory_doctor",
        "test_pubsub.py::test_pubsub_numpat",
    ),
    _refused("MONITOR", _NEIGHBOURS, "test_monitor.py::*"),
    _refused(
        "FUNCTION [A-Z]+",
        "function libraries are the server's: every tenant sees them and can replace them",
        "test_function.py::*",
    ),
    _refused(
        "SCRIPT FLUSH",
        "the script cache is everybody's",
        "test_scripting.py::test_script_flush*",
    ),
    _refused(
        "SELECT|COPY",
        "the tenant stays in the database that the connection was opened with",
        "test_commands.py::test_select",
        "test_commands.py::test_copy_to_another_database",
        "test_commands.py::test_bitfield_operations",
    ),
    _refused(
        "CLIENT REPLY|RESET",
        "it breaks the pairing of replies with requests, or the connection's set-up",
        "test_commands.py::test_client_reply",
        "test_commands.py::test_reset",
    ),
    _refused(
        "CLIENT",
        "CLIENT TRACKING ... REDIRECT would send names to another connection",
        "test_commands.py::test_client_tracking*",
    ),
    _refused(
        "COMMAND GETKEYS(ANDFLAGS)?",
        "servers have crashed on odd arguments to it; key_positions() answers without a server",
        "test_commands.py::test_command_getkeys*",
    ),
    _refused(
        "SOME_COMMAND",
        "the test sends a command that does not exist; what the table does not know is not sent",
        "test_encoding.py::test_memoryviews_are_not_packed",
    ),
    Exemption(
        "a command with too few arguments is refused before anything of the pipeline is sent, and by "
        "a text of its own rather than the server's",
        "ZREM refused: wrong number of arguments",
        ("test_pipeline.py::test_parse_error_raised*",),
    ),
    Exemption(
        "the warning names the client's class, which is ours",
        r"TenantRedis\.hmset\(\) is deprecated",
        ("test_commands.py::test_hmset",),
        before=6,
    ),
    Exemption(
        "closing a view of a shared pool leaves the connections to the others who use it",
        r"self\.has_no_connected_connections\(r\.connection_pool\)",
        (
            "test_connection_pool.py::test_auto_disconnect_redis_created_pool",
            "test_connection_pool.py::test_auto_release_override_true_manual_created_pool",
            "test_connection_pool.py::test_close_override",
        ),
        worlds=("child",),
    ),
    Exemption(
        "errors of pipelines show the command's keys and fields, and dots for the values",
        r"HSET aa* field_a \.\.\. field_b \.\.\.",
        ("test_pipeline.py::test_exec_error_in_pipeline_truncated",),
    ),
    Exemption(
        "errors of pipelines show dots for the values, which a number may be too",
        r"LPUSH c \.\.\.",
        ("test_pipeline.py::test_exec_error_raised",),
    ),
    Exemption(
        "the registry's keys are on the server too, so a SCAN may take more than one call",
        r"assert cursor == 0",
        ("test_commands.py::test_lists_with_*_keys",),
        worlds=("registry",),
    ),
)


def excuse(test: str, text: str, world: str) -> Exemption | None:
    """Return the exemption for a test that failed, if there is one."""
    fitting = (known for known in EXEMPTIONS if known.applies(world))
    return next((known for known in fitting if known.excuses(test, text)), None)
