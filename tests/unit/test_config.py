"""URLs and settings: what is accepted, what is refused, and that no password is ever shown."""

from __future__ import annotations

import inspect
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import connection as redis_connection

from tenantkv import urls
from tenantkv.config import Settings, redact_url, resolve
from tenantkv.errors import ConfigurationError

PASSWORD = "hunter2secretpassword"


def settings(url: str, **arguments: Any) -> Settings:
    return resolve(url, environ={}, **arguments)


class TestWhichUrl:
    def test_order(self) -> None:
        environ: dict[str, str] = {}
        assert resolve(environ=environ).url_source == "default"
        assert resolve(environ=environ).kind == "embedded"
        for variable in ("REDIS_URL", "TOOL_REDIS_URI", "TENANTKV_URL"):
            environ[variable] = f"redis://{variable.lower().replace('_', '-')}"
            found = resolve(environ=environ)
            assert (found.url, found.url_source) == (environ[variable], variable)
        assert resolve("redis://here", environ=environ).url_source == "argument"

    def test_blank_variables_count_as_unset(self) -> None:
        environ = {"TENANTKV_URL": "", "TOOL_REDIS_URI": " \n", "REDIS_URL": "redis://a\n"}
        assert resolve(environ=environ).url == "redis://a"

    def test_an_empty_argument_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="empty"):
            resolve("", environ={"REDIS_URL": "redis://a"})

    def test_an_error_names_the_variable(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^TOOL_REDIS_URI: "):
            resolve(environ={"TOOL_REDIS_URI": "http://x"})


class TestForms:
    @pytest.mark.parametrize(
        ("url", "redis_url"),
        [
            ("redis://h", "redis://h:6379?db=0"),
            ("REDIS://h", "redis://h:6379?db=0"),
            ("redis://", "redis://localhost:6379?db=0"),
            ("redis://h:1/3", "redis://h:1?db=3"),
            ("redis://h?db=3", "redis://h:6379?db=3"),
            ("redis://h/3?db=3", "redis://h:6379?db=3"),
            ("rediss://u:p@h:1/", "rediss://u:p@h:1?db=0"),
            ("redis://:p%2Fw@h", "redis://:p%2Fw@h:6379?db=0"),
            ("redis://u:p@ss@h", "redis://u:p%40ss@h:6379?db=0"),
            ("redis://[::1]:7/1", "redis://[::1]:7?db=1"),
            ("unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2"),
            ("unix://u:p@/run/r.sock", "unix://u:p@/run/r.sock?db=0"),
            (
                "redis://h?socket_timeout=2.5&placement=slot",
                "redis://h:6379?db=0&socket_timeout=2.5",
            ),
            ("redis://h?decode_responses=yes", "redis://h:6379?db=0&decode_responses=True"),
            ("redis://h?decode_responses=false", "redis://h:6379?db=0"),
            ("redis+cluster://a:7000,b", "redis://a:7000?db=0"),
            ("rediss+cluster://u:p@a", "rediss://u:p@a:6379?db=0"),
            ("sentinel://a,b:1/svc/2", "redis://a:26379?db=2"),
            ("embedded://", ""),
            ("memory://", ""),
            # Bare forms that platforms put into variables.
            ("redis:6379", "redis://redis:6379?db=0"),
            ("localhost", "redis://localhost:6379?db=0"),
            ("redis.svc.example.org", "redis://redis.svc.example.org:6379?db=0"),
            ("redis.svc.example.org:6380/1", "redis://redis.svc.example.org:6380?db=1"),
            ("[::1]:6379", "redis://[::1]:6379?db=0"),
            ("/run/r.sock", "unix:///run/r.sock?db=0"),
        ],
    )
    def test_accepted(self, url: str, redis_url: str) -> None:
        found = settings(url)
        assert found.redis_url == redis_url
        if redis_url:
            redis_connection.parse_url(redis_url)

    @pytest.mark.parametrize("password", ["p@ss", "a/b", "a?b", "a#b", "a%b", "a:b", "ä€", "a b", "["])
    def test_a_quoted_password_reaches_redis_py_as_it_is(self, password: str) -> None:
        found = settings(f"redis://me:{quote(password, safe='')}@h:1/0")
        assert redis_connection.parse_url(found.redis_url)["password"] == password

    def test_sentinel(self) -> None:
        found = settings("rediss+sentinel://u:p@a:1,b/my%2Dsvc/2?sentinel_password=x&ssl_cert_reqs=none")
        assert found.kind == "sentinel"
        assert found.server.hosts == (("a", 1), ("b", 26379))
        assert found.server.service == "my-svc" and found.server.db == 2
        assert found.server.sentinel_options == (("password", "x"),)
        assert found.redis_url == "rediss://u:p@a:1?db=2&ssl_cert_reqs=none"

    def test_cluster_and_embedded(self) -> None:
        assert settings("cluster://a:7000,[::1]:7001").server.hosts == (("a", 7000), ("::1", 7001))
        found = settings("embedded:///var/lib/x?profile=shared")
        assert (found.profile, found.server.path) == ("shared", "/var/lib/x")

    @pytest.mark.parametrize("scheme", urls.SCHEMES)
    def test_every_scheme_has_a_form(self, scheme: str) -> None:
        rest = {"unix": "/s", "embedded": "", "memory": ""}.get(scheme, "h/svc")
        if urls.SCHEMES[scheme][0] in ("server", "cluster") and scheme != "unix":
            rest = "h"
        assert settings(f"{scheme}://{rest}").kind == urls.SCHEMES[scheme][0]

    @pytest.mark.parametrize(
        ("url", "word"),
        [
            ("http://h", "redis://, rediss://"),
            ("reddis://h", "perhaps redis"),
            ("embeded://", "perhaps embedded"),
            ("embedded", "no scheme"),
            ("word", "host:port"),
            ("redis://h:0", "port"),
            ("redis://h:65536", "port"),
            ("redis://h:port", "port"),
            ("redis://h:\uff16\uff13", "port"),
            ("redis://a,b", "several hosts"),
            ("redis://h/x", "database"),
            ("redis://h/-1", "database"),
            ("redis://h/1/2", "database"),
            ("redis://h/1?db=2", "database"),
            ("redis://h?db=", "no value"),
            ("cluster://h/1", "only the database 0"),
            ("sentinel://h", "service"),
            ("sentinel:///svc", "service"),
            ("unix://run/r.sock", "three slashes"),
            ("unix://", "three slashes"),
            ("embedded://h", "no host"),
            ("memory://h", "no host"),
            ("redis://h#1", "#"),
            ("redis://h a", "blank"),
            ("redis://h\x1b", "control"),
            ("redis://h?socket_timeuot=1", "perhaps socket_timeout"),
            ("redis://h?placement=slot&placement=spread", "twice"),
            ("redis://h?placement=both", "spread, slot"),
            ("redis://h?registry=maybe", "true"),
            ("redis://h?decode_responses=maybe", "true"),
            ("redis://h?profile=shared", "embedded"),
            ("embedded://?profile=other", "shared"),
            ("redis://h?namespace=a%2Fb", "label"),
            ("redis://h?ssl_cert_reqs=none", "rediss"),
            ("redis://h?sentinel_password=x", "sentinel"),
        ],
    )
    def test_refused_with_what_is_allowed(self, url: str, word: str) -> None:
        with pytest.raises(ConfigurationError, match=word.replace("?", r"\?")):
            settings(url)


class TestPrecedence:
    @pytest.mark.parametrize(
        ("name", "first", "second", "default"),
        [
            ("placement", "slot", "spread", "spread"),
            ("namespace", "a", "b", "default"),
            ("registry", True, False, False),
        ],
    )
    def test_argument_then_url_then_environment_then_default(
        self, name: str, first: Any, second: Any, default: Any
    ) -> None:
        variable = f"TENANTKV_{name.upper()}"

        def found(url: str, environ: dict[str, str], **arguments: Any) -> Any:
            return getattr(resolve(url, environ=environ, **arguments), name)

        with_query = f"redis://h?{name}={first}"
        assert found("redis://h", {}) == default
        assert found("redis://h", {variable: str(first)}) == first
        assert found(with_query, {variable: str(second)}) == first
        assert found(with_query, {}, **{name: second}) == second
        assert found("redis://h", {variable: ""}) == default


class TestRedisPy:
    def test_we_know_what_the_installed_redis_py_knows(self) -> None:
        assert set(redis_connection.URL_QUERY_ARGUMENT_PARSERS) <= urls.REDIS_PARAMETERS

    def test_redis_py_knows_what_we_let_through(self) -> None:
        known: set[str] = set()
        for name in ("AbstractConnection", "Connection", "SSLConnection", "BlockingConnectionPool"):
            known |= set(inspect.signature(getattr(redis_connection, name).__init__).parameters)
        known |= set(redis_connection.URL_QUERY_ARGUMENT_PARSERS)
        # Only in newer versions than the oldest that we support.
        assert urls.REDIS_PARAMETERS - known <= {
            *("legacy_responses", "ssl_ciphers", "ssl_exclude_verify_flags", "ssl_include_verify_flags"),
        }


class TestRedaction:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://h:1/0", "redis://h:1/0"),
            ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
            ("redis://me:pw@h", "redis://me:***@h"),
            ("redis://pw@h", "redis://***@h"),
            ("redis://h?password=pw&db=1", "redis://h?password=***&db=1"),
            ("redis://h?p%61ssword=pw", "redis://h?password=***"),
            ("redis://h?unknown=pw", "redis://h?***"),
            ("sentinel://a,b/s?sentinel_password=pw", "sentinel://a,b/s?sentinel_password=***"),
            ("unix://:pw@/run/r.sock", "unix://:***@/run/r.sock"),
            ("me:pw@h:1", "me:***@h:1"),
            ("redis://:a/b?c#d@e@h", "redis://:***@h"),
            ("redis://:pw", "redis://***"),
        ],
    )
    def test_shown(self, url: str, shown: str) -> None:
        assert redact_url(url) == shown

    @given(
        st.sampled_from([*urls.SCHEMES, "http"]),
        st.text("ab/?#@:%&=,[] ", max_size=4),
        st.text("ab/?#@:%&=,[] ", max_size=4),
        st.booleans(),
    )
    def test_a_password_of_any_form_is_never_shown(
        self, scheme: str, before: str, after: str, in_query: bool
    ) -> None:
        """Also where it was not percent-encoded, so that the URL has other parts than meant."""
        if in_query:
            url = f"{scheme}://h/svc?password={quote(before + PASSWORD + after)}"
        else:
            url = f"{scheme}://me:{before}{PASSWORD}{after}@h:1/svc"
        assert PASSWORD not in redact_url(url)
        try:
            found = settings(url)
        except ConfigurationError as error:
            assert PASSWORD not in "".join(traceback.format_exception_only(error))
            assert PASSWORD not in repr(error.__context__)
        else:
            assert PASSWORD not in repr(found) + repr(found.server) + found.redacted_url

    def test_a_question_mark_in_a_password_does_not_make_it_a_parameter(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            settings("redis://:half?otherhalf=x@h:1")
        assert "half" not in str(caught.value)

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(AttributeError):
            settings("redis://h").url = "x"  # type: ignore[misc]
