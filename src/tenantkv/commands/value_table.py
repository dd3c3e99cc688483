"""What every command does with values in a sealed namespace, as data.

Every command of the command table with key names or channels stands in this file exactly once:

* `UNTOUCHED`: it neither takes nor gives values.
* `SEALED_ROWS`: its values are sealed on the way out and opened on the way back, each key by itself.
* `CONTEXT_ROWS`: the server carries values from key to key or compares them between keys, so it works
  among keys that share one context, and is refused otherwise.
* `OPAQUE`: what it carries is neither sealed nor opened.
* `REFUSED`: what the server does would destroy sealed values or make nonsense of them.

A row: the command, the kind that goes into the seal, where its values stand, and the reply. Positions
count from 0, the command itself, with a subcommand as a word of its own. Values:

    -          none                         2          one argument
    2..-1      from there to the end        3..-1/2@   every second, the word in front is its field
    3@2        one, whose field is at 2     2..-1/2^   every second, the word in front is its key
    =...       compared or removed only, and never stored
    a word     a layout of that name in `sealing_options.py`, for commands whose options decide

The reply column names a form of `sealing_replies.py`, ``-`` where a reply has no values, or a choice of
`sealing_options.py` where options decide about it or about a refusal.

Members of sets and of sorted sets are sealed by one kind, ``set``: the server takes a set where it
expects a sorted set (ZUNION, ZINTER ...), so a member has to look the same in both.
"""

from __future__ import annotations

UNTOUCHED = """
DEL EXISTS EXPIRE EXPIREAT EXPIRETIME KEYS PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PTTL SCAN TOUCH TTL TYPE
UNLINK WATCH
MEMORY|USAGE OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME OBJECT|REFCOUNT
HDEL HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HKEYS HLEN HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HTTL
LLEN LTRIM SCARD
XACK XACKDEL XCFGSET XDEL XDELEX XGROUP|CREATE XGROUP|CREATECONSUMER XGROUP|DELCONSUMER XGROUP|DESTROY
XGROUP|SETID XIDMPRECORD XINFO|CONSUMERS XINFO|GROUPS XLEN XNACK XPENDING XSETID XTRIM
ZCARD ZCOUNT ZREMRANGEBYRANK ZREMRANGEBYSCORE
SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE
PUBSUB|CHANNELS PUBSUB|NUMSUB PUBSUB|SHARDCHANNELS PUBSUB|SHARDNUMSUB
"""

SEALED_ROWS = """
DELEX                kv     -          delex
GET                  kv     -          value
GETDEL               kv     -          value
GETEX                kv     -          value
GETSET               kv     2          value
MGET                 kv     -          by_key
MSET                 kv     2..-1/2^   -
MSETEX               kv     msetex     -
MSETNX               kv     2..-1/2^   -
PSETEX               kv     3          -
SET                  kv     2          set
SETEX                kv     3          -
SETNX                kv     2          -
HGET                 hash   -          field
HGETALL              hash   -          map
HGETDEL              hash   -          announced_fields
HGETEX               hash   -          announced_fields
HMGET                hash   -          fields
HMSET                hash   3..-1/2@   -
HRANDFIELD           hash   -          hrandfield
HSCAN                hash   -          hscan
HSET                 hash   3..-1/2@   -
HSETEX               hash   hsetex     -
HSETNX               hash   3@2        -
BLMPOP               list   -          popped
BLPOP                list   -          popped
BRPOP                list   -          popped
LINDEX               list   -          members
LMPOP                list   -          popped
LPOP                 list   -          members
LPUSH                list   2..-1      -
LPUSHX               list   2..-1      -
LRANGE               list   -          members
LSET                 list   3          -
RPOP                 list   -          members
RPUSH                list   2..-1      -
RPUSHX               list   2..-1      -
SADD                 set    2..-1      -
SISMEMBER            set    =2         -
SMEMBERS             set    -          members
SMISMEMBER           set    =2..-1     -
SPOP                 set    -          members
SRANDMEMBER          set    -          members
SREM                 set    =2..-1     -
SSCAN                set    -          sscan
BZMPOP               set    -          popped_scored
BZPOPMAX             set    -          popped
BZPOPMIN             set    -          popped
ZADD                 set    zadd       -
ZINCRBY              set    3          -
ZMPOP                set    -          popped_scored
ZMSCORE              set    =2..-1     -
ZPOPMAX              set    -          scored
ZPOPMIN              set    -          scored
ZRANDMEMBER          set    -          zrandmember
ZRANGE               set    -          zrange
ZRANGEBYSCORE        set    -          zrangebyscore
ZRANK                set    =2         -
ZREM                 set    =2..-1     -
ZREVRANGE            set    -          zrevrange
ZREVRANGEBYSCORE     set    -          zrangebyscore
ZREVRANK             set    =2         -
ZSCAN                set    -          zscan
ZSCORE               set    =2         -
XADD                 stream xadd       xadd
XAUTOCLAIM           stream -          autoclaim
XCLAIM               stream -          entries
XINFO|STREAM         stream -          stream_info
XRANGE               stream -          entries
XREAD                stream -          streams
XREADGROUP           stream -          streams
XREVRANGE            stream -          entries
PUBLISH              chan   2          -
SPUBLISH             chan   2          -
"""

CONTEXT_ROWS = """
COPY                 kv     -          -
RENAME               kv     -          -
RENAMENX             kv     -          -
BLMOVE               list   -          members
BLMOVEM              list   -          members
BRPOPLPUSH           list   -          members
LMOVE                list   -          members
LMOVEM               list   -          members
RPOPLPUSH            list   -          members
SDIFF                set    -          members
SDIFFCARD            set    -          -
SDIFFSTORE           set    -          -
SINTER               set    -          members
SINTERCARD           set    -          -
SINTERSTORE          set    -          -
SMOVE                set    3          -
SUNION               set    -          members
SUNIONCARD           set    -          -
SUNIONSTORE          set    -          -
ZDIFF                set    -          combine
ZDIFFSTORE           set    -          -
ZINTER               set    -          combine
ZINTERCARD           set    -          -
ZINTERSTORE          set    -          -
ZRANGESTORE          set    -          zrangestore
ZUNION               set    -          combine
ZUNIONSTORE          set    -          -
"""

CONTEXT_REASON = (
    "it takes values from one key to another or compares them, and a seal is bound to its key's name."
)
CONTEXT_INSTEAD = (
    "Give all of its keys one context (contexts={name_glob: context}), or read, write and delete."
)

# Scripts get and give what the caller passes; a dump is a key's whole content as it lies on the server.
OPAQUE = "EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO DUMP RESTORE"

_PLAINTEXT = "declare the key in plaintext_keys"

# reason, what to do instead, commands; a star stands for a family.
REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "it changes a part of a value, and a seal is broken by that.",
        f"Read the value, change it and write it whole (in WATCH and MULTI); for bitmaps, {_PLAINTEXT}.",
        "APPEND BITFIELD BITOP SETBIT SETRANGE",
    ),
    (
        "the server looks into the value, and sees nothing but the seal.",
        f"Read the value (GET, HGET) and look at it here; for bitmaps, {_PLAINTEXT}.",
        "BITCOUNT BITFIELD_RO BITPOS DIGEST GETBIT GETRANGE HSTRLEN LCS STRALGO STRLEN SUBSTR",
    ),
    (
        "the server cannot count with a sealed number.",
        f"For counters, {_PLAINTEXT}; a sorted set (ZINCRBY) counts per member, with the numbers in clear.",
        "DECR DECRBY HINCRBY HINCRBYFLOAT INCR INCRBY INCRBYFLOAT INCREX",
    ),
    (
        "the server compares values, and the same value is never sealed the same way twice.",
        "Compare here, in WATCH and MULTI; to find and remove elements by value, use a sorted set.",
        "DELIFEQ LINSERT LPOS LREM",
    ),
    (
        "the server orders by content, and sees nothing but the seal.",
        f"Read all and sort here, order by score (ZADD, ZRANGE), or {_PLAINTEXT}.",
        "SORT SORT_RO ZLEXCOUNT ZRANGEBYLEX ZREMRANGEBYLEX ZREVRANGEBYLEX",
    ),
    (
        "a value of a hash is bound to its field, which this command does not tell.",
        "Use HGETALL to read and HSET to write.",
        "HIMPORT|SET HVALS",
    ),
    (
        "what the server computes from the arguments cannot be sealed.",
        f"To have it in clear, {_PLAINTEXT}.",
        "GEO* PF* V*",
    ),
    (
        "the server works inside of the value, which is not sealed for this type.",
        f"Store the document as a string (SET) or as a hash (HSET); to have it in clear, {_PLAINTEXT}.",
        "AR* BF.* CF.* CMS.* FT.SUG* JSON.* TDIGEST.* TOPK.* TS.*",
    ),
)

# Refusals of an option, by the choice in `sealing_options.py` that finds it: what, reason, instead.
OPTION_REFUSALS: dict[str, tuple[str, str, str]] = {
    "set": (
        "IFEQ, IFNE, IFDEQ, IFDNE",
        "it compares the stored value, and the same value is never sealed the same way twice.",
        "Compare here, in WATCH and MULTI.",
    ),
    "delex": (
        "IFEQ, IFNE, IFDEQ, IFDNE",
        "it compares the stored value, and the same value is never sealed the same way twice.",
        "Compare here, in WATCH and MULTI.",
    ),
    "zrange": (
        "BYLEX",
        "the server orders by content, and sees nothing but the seal.",
        "Read all and sort here, or order by score.",
    ),
    "sscan": (
        "MATCH (but *)",
        "the pattern would be matched against sealed members.",
        "Leave MATCH out and filter here.",
    ),
    "xadd": (
        "IDMPAUTO",
        "the server compares entries, and the same value is never sealed the same way twice.",
        "Use IDMP with an id of your own.",
    ),
}
OPTION_REFUSALS["zrangestore"] = OPTION_REFUSALS["zrange"]
OPTION_REFUSALS["zscan"] = OPTION_REFUSALS["sscan"]

# What commands that are refused or opaque would store, or show to others, in clear: for `values_of`.
# Where a syntax has many forms, everything behind the key counts as a value.
CLEAR_ROWS = """
APPEND               2
SETRANGE             3
DELIFEQ              =2
LINSERT              4
HIMPORT|SET          4..-1
RESTORE              3
EVAL                 script
EVALSHA              script
EVAL_RO              script
EVALSHA_RO           script
FCALL                script
FCALL_RO             script
PFADD                2..-1
GEOADD               geoadd
VADD                 2..-1
VSETATTR             2..-1
ARINSERT             2..-1
ARMSET               2..-1
ARRING               2..-1
ARSET                2..-1
BF.ADD               2..-1
BF.INSERT            2..-1
BF.MADD              2..-1
CF.ADD               2..-1
CF.ADDNX             2..-1
CF.INSERT            2..-1
CF.INSERTNX          2..-1
CMS.INCRBY           2..-1
FT.SUGADD            2..-1
JSON.ARRAPPEND       json
JSON.ARRINSERT       json
JSON.MERGE           json
JSON.MSET            json_mset
JSON.SET             json
JSON.STRAPPEND       2..-1
TOPK.ADD             2..-1
TOPK.INCRBY          2..-1
TS.ADD               2..-1
TS.ALTER             2..-1
TS.CREATE            2..-1
TS.DECRBY            2..-1
TS.INCRBY            2..-1
"""
