"""Realistic commands: at least one valid argument list for every command with names that servers offer.

Used against `COMMAND GETKEYS`, as an ACL user, and as the seeds of random commands. `SETUP` makes the
keys that they work on. A shape may be newer than a server; it then answers with an error, as it does to
a client without a namespace.
"""

from __future__ import annotations

import shlex
from functools import cache

from tenantkv.commands.table import RULES

SETUP_TEXT = """
SET str hello
SET num 10
SET w_1 30
SET w_2 20
SET w_3 10
RPUSH list a b c
RPUSH nums 3 1 2
SADD set a b c
SADD set2 b c d
SADD ints 1 2 3
ZADD zset 1 a 2 b 3 c
ZADD zset2 5 b 6 d
HSET hash f v g 1
XADD stream 1-1 f v
XADD stream 2-1 f w
XGROUP CREATE stream g 0
XGROUP CREATE stream STREAMS 0
GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
PFADD hll a b
PFADD hll2 b c
"""

# One a line, in the shell's quoting. Every command of the running server that has a row with names
# needs one here (`test_command_table.py`).
SHAPE_TEXT = """
APPEND str world
BITCOUNT str
BITCOUNT str 0 -1
BITFIELD num GET u8 0 INCRBY u8 0 1 OVERFLOW SAT SET u4 0 1
BITFIELD_RO num GET u8 0
BITOP AND dst str num
BITOP NOT dst str
BITPOS str 1 0 -1
BLMOVE list dst LEFT RIGHT 0.01
BLMPOP 0.01 2 none list LEFT COUNT 1
BLPOP none list 0.01
BLPOP none 0.01
BRPOP none list other 0.01
BRPOPLPUSH list dst 0.01
BZMPOP 0.01 2 none zset MIN
BZPOPMAX none zset 0.01
BZPOPMIN zset 0.01
COPY str dst
COPY str num REPLACE
DECR num
DECRBY num 3
DEL str none num
DELEX str
DELEX str IFEQ hello
DELEX str IFDNE 0123456789abcdef
DIGEST str
DIGEST none
DELIFEQ str hello
DUMP none
EVAL "return {redis.call('GET',KEYS[1]),ARGV[1],KEYS[1]}" 1 str EX
EVAL "redis.call('SET',KEYS[1],KEYS[2]) return redis.call('MGET',KEYS[1],'str')" 2 dst src
EVAL "return redis.call('BLPOP','none','list',0)" 0
EVAL "return redis.pcall('GET','list').err" 0
EVAL_RO "return redis.call('GET',KEYS[1])" 1 str
EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 str a
EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 1 str
EXISTS str none num
EXPIRE str 1000
EXPIREAT str 33000000000
EXPIRETIME str
GEOADD geo 13.5 38.0 Near
GEOADD geo NX CH 13.6 38.1 STORE
GEODIST geo Palermo Catania km
GEOHASH geo Palermo STORE
GEOPOS geo Palermo none
GEORADIUS geo 15 37 200 km WITHDIST WITHCOORD COUNT 1 ANY ASC
GEORADIUS geo 15 37 200 km STORE dst
GEORADIUS geo 15 37 200 km COUNT 5 DESC STOREDIST dst
GEORADIUSBYMEMBER geo Palermo 200 km
GEORADIUSBYMEMBER geo Palermo 200 km STORE dst
GEORADIUSBYMEMBER_RO geo Palermo 200 km
GEORADIUS_RO geo 15 37 200 km
GEOSEARCH geo FROMMEMBER Palermo BYRADIUS 200 km ASC
GEOSEARCH geo FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST
GEOSEARCHSTORE dst geo FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST
GET str
GETBIT str 3
GETDEL str
GETEX str
GETEX str PERSIST
GETRANGE str 0 -2
GETSET str new
HDEL hash f none
HEXISTS hash f
HEXPIRE hash 1000 FIELDS 2 f none
HEXPIREAT hash 33000000000 FIELDS 1 f
HEXPIRETIME hash FIELDS 1 f
HGET hash f
HGETALL hash
HGETDEL hash FIELDS 1 f
HGETEX hash EX 1000 FIELDS 1 f
HINCRBY hash g 2
HINCRBYFLOAT hash g 0.5
HKEYS hash
HLEN hash
HMGET hash f none
HMSET hash f 1 KEYS 2
HPERSIST hash FIELDS 1 f
HPEXPIRE hash 1000000 FIELDS 1 f
HPEXPIREAT hash 33000000000000 FIELDS 1 f
HPEXPIRETIME hash FIELDS 1 f
HPTTL hash FIELDS 1 f
HRANDFIELD hash 2 WITHVALUES
HSCAN hash 0 MATCH f* COUNT 10
HSET hash f 2 STORE 3
HSETEX hash EX 1000 FIELDS 1 f v
HSETNX hash new v
HSTRLEN hash f
HTTL hash FIELDS 1 f
HVALS hash
INCR num
INCRBY num 5
INCRBYFLOAT num 1.5
KEYS *
KEYS w_[12]
LCS str num
LCS str num IDX MINMATCHLEN 1 WITHMATCHLEN
LINDEX list 0
LINSERT list BEFORE b new
LLEN list
LMOVE list dst LEFT RIGHT
LMOVE list list LEFT RIGHT
LMPOP 2 none list LEFT COUNT 2
LPOP list
LPOP list 2
LPOS list b RANK 1 COUNT 0
LPUSH list x y
LPUSHX list x
LRANGE list 0 -1
LREM list 1 a
LSET list 0 new
LTRIM list 0 1
MEMORY USAGE str
MEMORY USAGE list SAMPLES 5
MGET str none num
MSET a 1 b 2 STORE 3
MSETEX 2 a 1 b 2 EX 1000
MSETEX 1 a 1 KEEPTTL
MSETNX a 1 b 2
OBJECT ENCODING str
OBJECT FREQ str
OBJECT IDLETIME str
OBJECT REFCOUNT str
PERSIST str
PEXPIRE str 1000000
PEXPIREAT str 33000000000000
PEXPIRETIME str
PFADD hll d e
PFCOUNT hll
PFCOUNT hll hll2
PFMERGE dst hll hll2
PSETEX dst 1000000 v
PTTL str
RENAME str dst
RENAME none dst
RENAMENX str num
RESTORE dst 0 notadump
RPOP list
RPOPLPUSH list dst
RPUSH dst x STORE y
RPUSHX list x
SADD set x BY
SCAN 0
SCAN 0 MATCH w_* COUNT 1000
SCAN 0 COUNT 1000 TYPE string
SCARD set
SDIFF set set2
SDIFFSTORE dst set set2
SET str new
SET str new EX 1000 GET
SET none v NX KEEPTTL
SETBIT num 7 1
SETEX dst 1000 v
SETNX dst v
SETRANGE str 2 XX
SINTER set set2
SINTERCARD 2 set set2 LIMIT 1
SINTERSTORE dst set set2
SISMEMBER set a
SMEMBERS set
SMISMEMBER set a none
SMOVE set set2 a
SORT nums
SORT nums BY w_* GET # GET w_*
SORT nums BY nosort GET w_*
SORT nums BY w_*->f LIMIT 0 2 DESC ALPHA
SORT nums BY w_1
SORT list ALPHA STORE dst
SORT nums GET w_* STORE dst
SORT_RO nums DESC
SPOP set
SPOP set 2
SRANDMEMBER set 2
SREM set a none
SSCAN set 0 MATCH *
STRALGO LCS KEYS str num
STRALGO LCS IDX MINMATCHLEN 1 KEYS str num
STRALGO LCS STRINGS KEYS num
STRLEN str
SUBSTR str 0 2
SUNION set set2
SUNIONSTORE dst set set2
TOUCH str none
TTL str
TYPE list
UNLINK str none
VADD vec VALUES 2 1 0.5 a
VADD vec REDUCE 2 VALUES 3 1 0 1 a CAS NOQUANT
VCARD vec
VDIM vec
VEMB vec a
VEMB vec a RAW
VGETATTR vec a
VINFO vec
VISMEMBER vec a
VLINKS vec a WITHSCORES
VRANDMEMBER vec 2
VRANGE vec - + 10
VREM vec a
VSETATTR vec a str
VSIM vec ELE a COUNT 3
VSIM vec VALUES 2 1 0 WITHSCORES
XACK stream g 1-1
XACKDEL stream g DELREF IDS 1 1-1
XADD stream 3-1 f STREAMS
XADD stream NOMKSTREAM MAXLEN 10 3-1 f v
XADD stream MINID 2 3-1 COUNT v
XAUTOCLAIM stream g c 0 0-0 COUNT 5
XCLAIM stream g c 0 1-1 FORCE JUSTID
XDEL stream 1-1
XDELEX stream KEEPREF IDS 1 1-1
XGROUP CREATE stream new 0
XGROUP CREATE other new $ MKSTREAM
XGROUP CREATECONSUMER stream g c
XGROUP DELCONSUMER stream g c
XGROUP DESTROY stream g
XGROUP SETID stream g 0
XINFO CONSUMERS stream g
XINFO GROUPS stream
XINFO STREAM stream
XINFO STREAM stream FULL COUNT 1
XLEN stream
XPENDING stream g
XPENDING stream g IDLE 0 - + 10 c
XRANGE stream - + COUNT 1
XREAD COUNT 1 STREAMS stream 0
XREAD COUNT 1 STREAMS none stream 0 0
XREAD BLOCK 1 STREAMS none 0
XREADGROUP GROUP g c COUNT 1 STREAMS stream >
XREADGROUP GROUP g c NOACK STREAMS stream >
XREADGROUP COUNT 1 GROUP STREAMS c STREAMS stream >
XREADGROUP GROUP none c STREAMS stream >
XREVRANGE stream + -
XSETID stream 9-1
XTRIM stream MAXLEN 1
ZADD zset 9 new
ZADD zset GT CH 9 a
ZCARD zset
ZCOUNT zset -inf +inf
ZDIFF 2 zset zset2 WITHSCORES
ZDIFFSTORE dst 2 zset zset2
ZINCRBY zset 2 a
ZINTER 2 zset zset2 WEIGHTS 1 2 AGGREGATE MAX
ZINTERCARD 2 zset zset2 LIMIT 1
ZINTERSTORE dst 2 zset zset2 AGGREGATE MIN
ZLEXCOUNT zset - +
ZMPOP 2 none zset MAX COUNT 2
ZMSCORE zset a none
ZPOPMAX zset
ZPOPMIN zset 2
ZRANDMEMBER zset 2 WITHSCORES
ZRANGE zset 0 -1 WITHSCORES
ZRANGE zset - + BYLEX LIMIT 0 2
ZRANGEBYLEX zset - + LIMIT 0 1
ZRANGEBYSCORE zset 1 2 WITHSCORES LIMIT 0 1
ZRANGESTORE dst zset 0 -1
ZRANGESTORE dst zset 1 2 BYSCORE LIMIT 0 1
ZRANK zset a
ZREM zset a none
ZREMRANGEBYLEX zset [a (b
ZREMRANGEBYRANK zset 0 0
ZREMRANGEBYSCORE zset 1 2
ZREVRANGE zset 0 -1
ZREVRANGEBYLEX zset + -
ZREVRANGEBYSCORE zset 2 1
ZREVRANK zset a
ZSCAN zset 0
ZSCORE zset a
ZUNION 2 zset zset2
ZUNIONSTORE dst 2 zset zset2 WEIGHTS 1 2
"""

# Words that no shape runs by itself, since they need a connection of their own or a trusted function.
OWN_TESTS = {
    "WATCH": "it marks a connection; the transactions of these tests use it",
    "FCALL": "it needs a function on the server and the user's trust in it",
    "FCALL_RO": "it needs a function on the server and the user's trust in it",
}

# Shapes of those, for what only looks at the words.
OTHER_SHAPE_TEXT = """
WATCH str num
FCALL func 2 str num KEYS
FCALL_RO func 1 str
FCALL func 0 str
"""


Shape = tuple[bytes, ...]


def _commands(text: str) -> tuple[Shape, ...]:
    lines = filter(None, text.splitlines())
    return tuple(tuple(word.encode() for word in shlex.split(line)) for line in lines)


SETUP = _commands(SETUP_TEXT)
SHAPES = _commands(SHAPE_TEXT)
OTHER_SHAPES = _commands(OTHER_SHAPE_TEXT)


def name_of(shape: Shape) -> str:
    """Return a shape's command as the table names it."""
    word = shape[0].decode().upper()
    if word in _CONTAINERS and len(shape) > 1:
        return f"{word} {shape[1].decode('latin-1').upper()}"
    return word


_CONTAINERS = frozenset(name.split()[0] for name in RULES if " " in name)


@cache
def shapes_by_name() -> dict[str, list[Shape]]:
    """Return all shapes under their commands' names."""
    found: dict[str, list[Shape]] = {}
    for shape in SHAPES + OTHER_SHAPES:
        found.setdefault(name_of(shape), []).append(shape)
    return found
