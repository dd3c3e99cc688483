"""Guarded scripts on real servers behave like bare ones on a server of their own, and never stray.

Every script of a case runs twice on the same server: bare in one database, and guarded in another as an
ACL user who is confined to the tenant's prefixes. Replies and error texts (line numbers included) must
be equal, so a command that this server lacks proves nothing and harms nothing. Names left behind must be
equal as well once the prefix is off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import limits
import pytest
import redis
from redis.lock import Lock

from tenantkv.commands.script_guard import guard, wire_sha
from tests.servers import RealServer

PREFIX = b"Kx+" + b"A1/" * 13 + b"=:"
CHANNELS = b"c-_" + b"B" * 30 + b":"
OTHER = b"Zz+" + b"A1/" * 13 + b"=:"


class Tenant:
    """Runs scripts as the transport will: guarded, with wire names and the prefixes last."""

    def __init__(self, client: redis.Redis, prefix: bytes = PREFIX) -> None:
        self.client = client
        self.prefix = prefix

    def eval(self, script: bytes, keys: tuple = (), args: tuple = (), name: str = "EVAL") -> Any:
        wire = [self.prefix + key for key in keys]
        return self.client.execute_command(
            name, guard(script), len(keys), *wire, *args, self.prefix, CHANNELS
        )

    def names(self) -> set[bytes]:
        found = self.client.execute_command("KEYS", self.prefix + b"*")
        return {name[len(self.prefix) :] for name in found}


def confined(server: RealServer, prefix: bytes, database: int) -> redis.Redis:
    """Return a client whose user may touch nothing but the tenant's names."""
    rules = ["reset", "on", "nopass", b"~" + prefix + b"*", "+@all"]
    if server.knows_channel_rules:
        rules += ["resetchannels", b"&" + CHANNELS + b"*"]
    server.command("ACL", "SETUSER", f"tenant{database}", *rules)
    return redis.Redis(
        unix_socket_path=server.socket_path,
        db=database,
        username=f"tenant{database}",
        password="any",
        protocol=2,
    )


@pytest.fixture
def bare(any_server: RealServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=any_server.socket_path, db=1, protocol=2) as client:
        yield client


@pytest.fixture
def tenant(any_server: RealServer) -> Iterator[Tenant]:
    with confined(any_server, PREFIX, 2) as client:
        yield Tenant(client)


@pytest.fixture
def unconfined(any_server: RealServer) -> Iterator[Tenant]:
    with redis.Redis(unix_socket_path=any_server.socket_path, db=2, protocol=2) as client:
        yield Tenant(client)


def outcome(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except redis.ResponseError as error:
        return "error", re.sub("[0-9a-f]{40}", "<sha>", str(error))


def run_both(bare: redis.Redis, tenant: Tenant, script: bytes, keys: tuple, args: tuple) -> Any:
    plain = outcome(bare.execute_command, "EVAL", script, len(keys), *keys, *args)
    guarded = outcome(tenant.eval, script, keys, args)
    assert guarded == plain
    assert set(bare.keys("*")) == tenant.names()
    return plain


SETUP = b"""
redis.call('SET','s','v') redis.call('SET','n',5) redis.call('RPUSH','l','3','1','2')
redis.call('SADD','set','a','b') redis.call('SADD','set2','b','c') redis.call('ZADD','z',1,'a',2,'b')
redis.call('HSET','h','f','1') redis.call('XADD','x','1-1','f','v') redis.call('XADD','x2','1-1','f','v')
redis.call('GEOADD','g',13.4,52.5,'berlin') redis.call('PFADD','hll','a')
redis.call('XGROUP','CREATE','x','STREAMS','0')
return redis.call('DBSIZE_IS_REFUSED' and 'EXISTS','s','n','l','nothing')
"""

COMMANDS = """
redis.call('GET','s') | redis.call('get',KEYS[1]) | redis.call('gEt','s')
redis.call('GET','nothing') | redis.call('SET','0x1f','v','EX',100)
redis.call('SETEX','e',100,'v') | redis.call('INCRBY','n',7) | redis.call('SET',7,7)
redis.call('SET',0.1,1.5) | redis.call('SET',-3,1) | redis.call('GET',1e16)
redis.call('SET',123456789012345678,'v') | redis.call('SET',1e100,'v') | redis.call('SET','','v')
redis.call('DEL','s') | redis.call('DEL','s','n','nothing') | redis.call('unlink',KEYS[1],'l')
redis.call('MGET','s','n','l') | redis.call('MGET','s') | redis.call('MSET','a','1','b','2')
redis.call('MSETNX','a','1','s','2') | redis.call('MSETEX',2,'a','1','b','2','EX','9')
redis.call('RENAME','s','t') | redis.call('RENAMENX','s','n') | redis.call('COPY','s','t')
redis.call('COPY','s','n','REPLACE') | redis.call('COPY','s','n','replace')
redis.call('BITOP','AND','t','s','n') | redis.call('BITOP','NOT','t','s')
redis.call('LCS','s','n') | redis.call('STRALGO','LCS','KEYS','s','n')
redis.call('STRALGO','LCS','LEN','STRINGS','s','n') | redis.call('LMOVE','l','l2','LEFT','RIGHT')
redis.call('RPOPLPUSH','l','l2') | redis.call('LMPOP',2,'nothing','l','LEFT')
redis.call('LMPOP','1','nothing','LEFT') | redis.call('LMPOP',1,'l','LEFT','COUNT',2)
redis.call('BLMPOP',0,1,'l','LEFT') | redis.call('BLPOP','nothing','l',0)
redis.call('BRPOP','nothing',0) | redis.call('BZPOPMIN','z',0) | redis.call('ZMPOP',1,'z','MIN')
redis.call('BZMPOP',1,1,'z','MAX') | redis.call('ZPOPMIN','z') | redis.call('SDIFF','set','set2')
redis.call('SINTERSTORE','d','set','set2') | redis.call('SMOVE','set','set2','a')
redis.call('SINTERCARD',2,'set','set2','LIMIT',1) | redis.call('SUNIONSTORE','d','set')
redis.call('ZUNIONSTORE','d',2,'z','nothing','WEIGHTS',1,2) | redis.call('ZINTER','2','z','z')
redis.call('ZDIFF',1,'z','WITHSCORES') | redis.call('ZDIFFSTORE','d',1,'z')
redis.call('ZINTERCARD',1,'z') | redis.call('ZRANGESTORE','d','z',0,-1)
redis.call('ZRANGE','z',0,-1) | redis.call('ZSCAN','z',0) | redis.call('PFMERGE','d','hll')
redis.call('PFCOUNT','hll','d') | redis.call('SSCAN','set',0)
redis.call('GEORADIUS','g',13,52,900,'km','STORE','d')
redis.call('GEORADIUS','g',13,52,900,'km','COUNT',1)
redis.call('GEORADIUSBYMEMBER','g','berlin',9,'km','ASC','STOREDIST','STORE')
redis.call('GEOSEARCHSTORE','d','g','FROMMEMBER','berlin','BYRADIUS',9,'km')
redis.call('XREAD','COUNT',1,'STREAMS','x','x2','0','0') | redis.call('xread','streams','x','0')
redis.call('XREAD','STREAMS','STREAMS','0') | redis.call('XREAD','STREAMS','x','9')
redis.call('XREADGROUP','GROUP','STREAMS','STREAMS','COUNT',1,'STREAMS','x','>')
redis.call('XREADGROUP','GROUP','absent','c','STREAMS','x','>')
redis.call('XGROUP','CREATE','x3','g','$','MKSTREAM') | redis.call('XINFO','GROUPS','x')
redis.call('xgroup','create','x','STREAMS','0') | redis.call('XGROUP','DESTROY','nothing','g')
redis.call('OBJECT','ENCODING','n') | redis.call('object','refcount','s')
redis.call('MEMORY','USAGE','nothing') | redis.call('SORT','l')
redis.call('SORT','l','LIMIT',0,2,'DESC','STORE','d') | redis.call('SORT','l','ALPHA')
redis.call('SORT_RO','l') | redis.call('SORT','l','STORE','STORE') | redis.call('DUMP','s')
(function() local t = redis.call('KEYS','h*') table.sort(t) return t end)()
redis.call('KEYS','none*') | redis.call('EXISTS','s','s') | redis.call('TOUCH','s')
redis.call('ECHO','s') | redis.call('PING') | redis.call('tIME')[3] or 0 | redis.call('PING','s')
redis.call('TYPE','s') | redis.call('TYPE','s').ok | redis.call('LPUSH','s','v')
redis.call('INCR','l') | redis.call('GET',nil) | redis.call('SET','s') | redis.call('RENAME','s')
redis.call('RENAME','nothing','t') | redis.call('LSET','l',9,'v') | redis.call('BLPOP','l')
redis.call('GET','s','extra') | redis.call('MSET','a') | redis.call('GET',{})
redis.call('GET',true) | redis.call('DEL','s',false) | redis.call() | redis.call('RENAME',nil,'s')
redis.call('PUBLISH','ch','m') | redis.call('SPUBLISH','c','m') | redis.pcall('GET','s')
redis.pcall('LPUSH','s','v') | redis.pcall('LPUSH','s','v').err
redis.pcall('XREADGROUP','GROUP','absent','c','STREAMS','x','>').err | redis.pcall('GET',nil)
redis.pcall('GET',{}).err | redis.error_reply('OWN mine') | redis.status_reply('FINE')
{err='MY own'} | redis.sha1hex('') | redis.LOG_WARNING | redis.log(redis.LOG_DEBUG,'tenantkv')
redis.setresp(3) | cjson.encode({1,{a='b'}}) | cmsgpack.unpack(cmsgpack.pack({1,'x'}))
bit.bor(1,6) | struct.pack('>I2',7)
{#KEYS,#ARGV,KEYS[1],ARGV[1],ARGV[2],ARGV[3] or 'none',KEYS[3] or 'none'} | {unpack(ARGV)}
{unpack(KEYS)} | select('#',unpack(ARGV)) | table.concat(KEYS,',') | error('mine')
{pcall(error,'mine')} | 1+nil | {pcall(redis.call,'GET','s')} | redis.call('HSET','h',unpack(ARGV))
{redis.call('HGET','h','f')} | redis.call(ARGV[3] or 'GET',KEYS[1]) | redis['call']('GET','s')
(redis.call)('GET','s') | redis.call('G'..'ET','s') | loadstring("return redis.call('GET','s')")()
{load(function() return nil end)} | _G.redis.call('GET','s') | _G.cjson.encode({})
{rawget(_G,'nothing') or 'none'} | type(_G.string.sub) | redis.call('EXPIRE','s',100)
redis.call('LPUSH',KEYS[1]..':q','v')
"""

SCRIPTS = [f"return {piece}" for line in COMMANDS.splitlines() for piece in line.split(" | ") if piece]


# The second makes the guard carry its whole table, as it must where a name may be computed.
@pytest.mark.parametrize("start", ["", "local _ = {redis.call} "], ids=["literal", "computed"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_reply_and_names_are_those_of_a_private_server(
    script: str, start: str, bare: redis.Redis, tenant: Tenant, any_server: RealServer
) -> None:
    run_both(bare, tenant, SETUP, (), ())
    run_both(bare, tenant, (start + script).encode(), (b"s", b"k:\xff"), (b"a", b"\x00b"))
    strays = {name for name in any_server.dump_keys() if not name.startswith(PREFIX)}
    assert strays == set(bare.keys("*"))


@pytest.mark.parametrize(
    "script",
    [
        "return redis.call('SORT','l','BY','w_*')",
        "return redis.call('SORT','l','BY','nosort','GET','#','GET','w_*')",
        "return redis.call('sort','l','by','w_*','get','hash_*->f','store','d')",
        "return redis.call('SORT','l','BY','w_1','GET','STORE')",
    ],
)
def test_sort_reads_only_own_keys(script: str, bare: redis.Redis, unconfined: Tenant) -> None:
    setup = b"""redis.call('RPUSH','l',1,2,3)
    for i=1,3 do redis.call('SET','w_'..i,9-i) redis.call('HSET','hash_'..i,'f','v'..i) end"""
    run_both(bare, unconfined, setup, (), ())
    run_both(bare, unconfined, script.encode(), (), ())


@pytest.mark.parametrize(
    "command",
    [
        "'XREAD','STREAMS','x','0'",
        "'XREADGROUP','GROUP','STREAMS','c','STREAMS','x','>'",
        "'ZMPOP',1,'z','MIN'",
        "'BLPOP','l',0",
        "'HGETALL','h'",
    ],
)
def test_resp3_replies(command: str, bare: redis.Redis, tenant: Tenant) -> None:
    run_both(bare, tenant, SETUP, (), ())
    script = f"redis.setresp(3) return cjson.encode(redis.call({command}))"
    run_both(bare, tenant, script.encode(), (), ())


@pytest.mark.parametrize(
    "command",
    [
        "'FLUSHALL'", "'flushdb'", "'RANDOMKEY'", "'DBSIZE'", "'SWAPDB',0,1", "'MOVE','s',3", "'SELECT',3",
        "'CONFIG','GET','*'", "'COPY','s','t','DB',3", "'SORT','l','STORE','a','STORE','b'",
        "'GEORADIUS','g',1,1,1,'km','STORE','a','STORE','b'", "'ZUNIONSTORE','d','0x1','z'",
        "'ZUNIONSTORE','d',' 1','z'", "'ZINTER',1.5,'z'", "'ZINTER',9,'z'", "'LMPOP',-1,'l','LEFT'",
        "'XREAD','COUNT',1,'BAD','STREAMS','x','0'", "'XREAD','STREAMS','x','x2','0'", "'NO.SUCH','k'",
        "'MEMORY','STATS'", "'OBJECT','NOPE','s'", "'PUBSUB','CHANNELS'", "'EVAL','return 1',0",
        "'FCALL','f',0", "'FT.SEARCH','i','*'", "'SCAN',0,'MATCH','a','MATCH','b'", "'GET SET','k'",
        "'MIGRATE','h',1,'k',0,1", "'SLOWLOG','GET'", "'DEBUG','OBJECT','s'", "'LATENCY','LATEST'",
        "'42'", "''", "'XREAD','COUNT'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["literal", "computed"])
def test_refusals_raise_from_call_and_return_from_pcall(
    command: str, name: str, tenant: Tenant, any_server: RealServer
) -> None:
    tenant.eval(SETUP)
    before = any_server.dump()
    word, comma, rest = command.partition(",")
    call = command if name == "literal" else f"({word}){comma}{rest}"
    with pytest.raises(redis.ResponseError, match="refused in a script"):
        tenant.eval(f"return redis.call({call})".encode())
    text = tenant.eval(f"return redis.pcall({call}).err".encode())
    assert b"refused in a script: " in text
    assert text.startswith(b"ERR ")
    assert any_server.dump() == before


LINES = [
    b"\n\nlocal r = redis.call('LPUSH', 's', 'v')\nreturn r",
    b"local r\r\nr = redis.call('LPUSH', 's', 'v')\r\nreturn r",
    b"\n\n\nreturn redis.call('LPUSH', 's', 'v')",
    b"-- c\n\nlocal function f() local r = redis.call('MSET','a') return r end\n\nlocal x = f() return x",
    b"\nlocal x = nil + 1",
    b"\n\nerror('mine')",
    b"\n\nsyntax error here",
    b"\nlocal r = redis.call('XREADGROUP','GROUP','g','c','STREAMS','s2','>')",
    b"local call = redis.call\n\nlocal x = call('LPUSH','s','v')",
    b"\nlocal ok, e = pcall(redis.call, 'LPUSH', 's', 'v') return {ok and 1 or 0, type(e)}",
    b"\nlocal ok, e = pcall(redis.call, 'LPUSH', 's', 'v') error(e)",
]


@pytest.mark.parametrize("script", LINES)
def test_errors_keep_their_line_and_text(script: bytes, bare: redis.Redis, tenant: Tenant) -> None:
    run_both(bare, tenant, b"return redis.call('SET','s','v')", (), ())
    assert run_both(bare, tenant, script, (), ()) is not None


FORMS = [
    b"return 1",
    b"",
    b" ",
    b"-- only a comment",
    b"-- redis.call('GET')\nreturn redis.call('SET','s',1)",
    b"--[[ long\ncomment ]] return redis.call('SET','s',1)",
    b"local redis = redis return redis.call('SET','s',1)",
    b"local redis = redis\r\nreturn redis.call('SET','s',1)\r\n",
    b"return redis.call('SET','\xff\xfe\xc3','\xe4')",
    b"return {'\xe4', KEYS[1]}",
    b"(function() end)() return redis.call('SET','s',1)",
    b"return redis.call'PING'",
    b'return redis.call  (  "set"  ,"s",1)',
    b"local a,b = redis.call, redis.pcall a('SET','s',1) return b('GET','s')",
    b"local t = {redis} return t[1].call('SET','s',1)",
    b"redis.replicate_commands() return redis.call('TIME') and redis.call('SET','s',1)",
    b"if redis.breakpoint then redis.call('SET','s',1) end return redis.set_repl ~= nil",
    b"local f = function(...) return redis.call(...) end return f('SET','s',1)",
    b"for i=1,3 do redis.call(i==2 and 'incr' or 'INCR','n') end return redis.call('get','n')",
    b"return coroutine.wrap(function() return redis.call('SET','s',1) end)()",
    b"return redis.nothing == nil",
    b"return tostring(1)",
    b"nosuchglobal = 1",
    b"return nosuchglobal",
]


@pytest.mark.parametrize("script", FORMS)
def test_forms_of_scripts(script: bytes, bare: redis.Redis, tenant: Tenant) -> None:
    run_both(bare, tenant, script, (b"s",), ())


@pytest.mark.parametrize("count", [1000, 7000, 7900])
@pytest.mark.parametrize("command", ["'RPUSH','l'", "'DEL'", "'SUNIONSTORE','d'"])
def test_long_argument_lists(count: int, command: str, bare: redis.Redis, tenant: Tenant) -> None:
    script = f"local t={{}} for i=1,{count} do t[i]=i end return redis.call({command},unpack(t))"
    run_both(bare, tenant, script.encode(), (), ())


def test_shebang_and_read_only(any_server: RealServer, bare: redis.Redis, tenant: Tenant) -> None:
    if any_server.product == "redis" and any_server.version_info < (7,):
        pytest.skip("came with Redis 7.0")
    run_both(bare, tenant, b"#!lua flags=no-writes\nreturn redis.call('GET','s')", (), ())
    run_both(bare, tenant, b"#!lua flags=no-writes\n\nlocal x = redis.call('SET','s','v')", (), ())
    run_both(bare, tenant, b"#!lua name=x\nreturn 1", (), ())
    assert tenant.eval(b"return redis.call('GET',KEYS[1])", (b"s",), name="EVAL_RO") is None
    with pytest.raises(redis.ResponseError, match="Write commands are not allowed"):
        tenant.eval(b"return redis.call('SET',KEYS[1],1)", (b"s",), name="EVAL_RO")


def test_server_table(any_server: RealServer, tenant: Tenant) -> None:
    assert tenant.eval(b"return server.call('SET',KEYS[1],'v')", (b"s",)) == b"OK"
    assert tenant.eval(b"return {server.call('GET','s'),redis.call('GET','s')}") == [b"v", b"v"]
    if any_server.product == "valkey":
        assert tenant.eval(b"return server.SERVER_NAME") == b"valkey"


@pytest.mark.parametrize(
    "script",
    [
        b"return getfenv().redis.call('SET','stray',1)",
        b"return getmetatable(redis).__index.call('SET','stray',1)",
        b"return loadstring('return redis.call(...)')('SET','stray',1)",
        b"return load(function() return nil end) and _G['re'..'dis']['ca'..'ll']('SET','stray',1)",
        b"local g = _G return g.redis.call('SET','stray',1)",
        b"return redis['c'..'all']('SET','stray',1)",
        b"local x = {'call'} return redis[x[1]]('SET','stray',1)",
    ],
)
def test_ways_round_the_guard_stay_inside(script: bytes, unconfined: Tenant, any_server: RealServer) -> None:
    outcome(unconfined.eval, script)
    assert any_server.dump_keys() <= {PREFIX + b"stray"}


@pytest.mark.parametrize("prefix", [PREFIX, b"{" + PREFIX[:-1] + b"}:"])
def test_no_prefix_in_any_error(prefix: bytes, unconfined: Tenant) -> None:
    tenant = Tenant(unconfined.client, prefix)
    script = b"return redis.call('XREADGROUP','GROUP','g','c','STREAMS','s','>')"
    with pytest.raises(redis.ResponseError) as raised:
        tenant.eval(script)
    assert "No such key 's'" in str(raised.value)
    caught = b"local _,e = pcall(redis.call,'XREADGROUP','GROUP','g','c','STREAMS','s','>')"
    text = tenant.eval(caught + b" return type(e) == 'table' and e.err or e")
    assert prefix not in text and b"No such key 's'" in text


def test_evalsha_uses_the_wire_digest(any_server: RealServer, tenant: Tenant) -> None:
    script = b"return redis.call('INCR', KEYS[1])"
    tenant.eval(script, (b"n",))
    assert any_server.command("SCRIPT EXISTS", wire_sha(script)) == [1]
    wire = (wire_sha(script), 1, PREFIX + b"n", PREFIX, CHANNELS)
    assert tenant.client.execute_command("EVALSHA", *wire) == 2


def test_messages_go_to_the_own_channel(any_server: RealServer, tenant: Tenant) -> None:
    pubsub = any_server.operator().pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("*")
    pubsub.get_message(timeout=1)
    assert tenant.eval(b"return redis.call('publish', 'news', ARGV[1])", (), (b"m",)) == 1
    message = pubsub.get_message(timeout=1)
    assert message is not None and message["channel"] == CHANNELS + b"news"
    pubsub.close()


def test_scan_sees_only_own_names(any_server: RealServer, unconfined: Tenant) -> None:
    other = Tenant(unconfined.client, OTHER)
    for each in (unconfined, other):
        each.eval(b"for i=1,50 do redis.call('SET','k'..i,i) end")
    walk = b"""local cursor, seen = '0', {}
    repeat
      local page = redis.call('SCAN', cursor%s)
      cursor = page[1]
      for _, name in ipairs(page[2]) do seen[#seen+1] = name end
    until cursor == '0'
    table.sort(seen) return seen"""
    assert len(unconfined.eval(walk % b"")) == 50
    assert unconfined.eval(walk % b", 'COUNT', 5, 'MATCH', 'k4?'") == [b"k4%d" % i for i in range(10)]
    assert unconfined.eval(walk % b", 'TYPE', 'list'") == []


RQ_EMPTY = b"""
local prefix = "rq:job:"
local q = KEYS[1]
local count = 0
while true do
    local job_id, _ = unpack(redis.call("lpop", q, 1) or {})
    if job_id == nil then break end
    if not job_id then break end
    redis.call("del", prefix..job_id)
    redis.call("del", prefix..job_id..":dependents")
    count = count + 1
end
return count
"""
CHANNELS_REDIS = b"""
for i=1,#ARGV-1 do redis.call('ZADD', ARGV[i], 1, ARGV[#ARGV]) end
local backed_up = redis.call('ZRANGE', ARGV[1], 0, -1, 'WITHSCORES')
for i = #backed_up, 1, -2 do redis.call('ZADD', ARGV[2], backed_up[i], backed_up[i-1]) end
redis.call('DEL', ARGV[1])
"""
SAQ_LIKE = b"""
if not redis.call('ZSCORE', KEYS[1], KEYS[2]) and redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('SET', KEYS[2], ARGV[1])
    redis.call('ZADD', KEYS[1], ARGV[2], KEYS[2])
    if ARGV[2] == '0' then redis.call('RPUSH', KEYS[3], KEYS[2]) end
    return 1
end
return nil
"""
HUEY_POP = b"""
local key = KEYS[1]
local unix_ts = ARGV[1]
local res = redis.call('zrangebyscore', key, '-inf', unix_ts)
if #res and redis.call('zremrangebyscore', key, '-inf', unix_ts) == #res then return res end
"""
BULLMQ_LIKE = b"""
local rcall = redis.call
local id = rcall("INCR", KEYS[1])
rcall("HMSET", ARGV[1] .. id, "name", ARGV[2])
rcall("LPUSH", KEYS[2], id)
return rcall("RPOPLPUSH", KEYS[2], KEYS[2] .. ":active")
"""
LIMITS = Path(limits.__file__).parent / "resources/redis/lua_scripts"
LIBRARIES: list[tuple[bytes, tuple, tuple]] = [
    (b"redis.call('RPUSH','q','1','2') for i=1,3 do redis.call('SET','rq:job:'..i,'x') end", (), ()),
    (RQ_EMPTY, (b"q",), ()),
    (CHANNELS_REDIS, (), (b"asgi:a", b"asgi:b", b"member")),
    (SAQ_LIKE, (b"saq:incomplete", b"saq:job:1", b"saq:queued", b"saq:abort:1"), (b"job", b"0")),
    (HUEY_POP, (b"huey.schedule",), (b"99",)),
    (BULLMQ_LIKE, (b"bull:id", b"bull:wait"), (b"bull:", b"job")),
    (b"return redis.call('set','lock','token','px',99999)", (), ()),
    *((Lock.LUA_REACQUIRE_SCRIPT.encode(), (b"lock",), (t, b"99999")) for t in (b"token", b"no")),
    *((Lock.LUA_RELEASE_SCRIPT.encode(), (b"lock",), (token,)) for token in (b"no", b"token")),
    *(((LIMITS / "incr_expire.lua").read_bytes(), (b"LIMITER/a",), (b"60", b"1")) for _ in "ab"),
    *(
        ((LIMITS / "acquire_moving_window.lua").read_bytes(), (b"LIMITER/m",), args)
        for args in [(b"1000.5", b"2", b"60", b"1")] * 3
    ),
    ((LIMITS / "moving_window.lua").read_bytes(), (b"LIMITER/m",), (b"990", b"2")),
    *(
        ((LIMITS / "acquire_sliding_window.lua").read_bytes(), (b"LIMITER/p", b"LIMITER/c"), args)
        for args in [(b"2", b"60", b"1")] * 3
    ),
    ((LIMITS / "clear_keys.lua").read_bytes(), (b"LIMITER*",), ()),
]  # fmt: skip


def test_scripts_of_libraries(bare: redis.Redis, tenant: Tenant, any_server: RealServer) -> None:
    neighbour = Tenant(any_server.operator(), OTHER)
    neighbour.eval(b"for i=1,3 do redis.call('SET','rq:job:'..i,'x') redis.call('SET','LIMITER/'..i,1) end")
    for script, keys, args in LIBRARIES:
        before = {at: value for at, value in any_server.dump().items() if at[0] == 0}
        result = run_both(bare, tenant, script, keys, args)
        assert not (isinstance(result, tuple) and result[0] == "error"), result
        assert {at: value for at, value in any_server.dump().items() if at[0] == 0} == before


def test_two_tenants_never_meet(any_server: RealServer) -> None:
    mine, theirs = (Tenant(confined(any_server, p, d), p) for p, d in ((PREFIX, 2), (OTHER, 3)))
    for tenant, other in ((mine, theirs), (theirs, mine)):
        before = other.client.keys(other.prefix + b"*")
        tenant.eval(SETUP)
        for script in SCRIPTS:
            outcome(tenant.eval, script.encode(), (b"s", b"k"), (b"a", b"b"))
        assert other.client.keys(other.prefix + b"*") == before
    strays = [name for name in any_server.dump_keys() if not name.startswith((PREFIX, OTHER))]
    assert strays == []
    mine.client.close()
    theirs.client.close()
