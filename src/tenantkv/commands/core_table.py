"""What the commands of Redis 6.0 to 8.10 and Valkey 7.2 to 9.1 do with key names, as data.

One row a command: its name, the fewest arguments it takes, where its key names stand, flags, and the
shape of a reply that holds names. Positions count from 0, the command itself, with a subcommand as a
word of its own. Key names:

    1          the first argument            1 2        the first and the second
    1..-1      from the first to the last    1..-2      to the last but one
    1..-1/3    every third                   #1         a count at 1, then that many names
    a word     a parser of that name in `options.py`, for commands whose options decide

Flags: r reads, w writes, c may create a key, i may be repeated after a lost reply (same effect and same
answer, unless an option such as NX makes it conditional), b blocks. Minimum argument counts and most positions were
read off live servers (Redis 6.2 and 7.0, Valkey 9.1); the rest follows their published documentation.
Checked against `COMMAND` and `COMMAND GETKEYS` of real servers by `tests/contract/test_command_table.py`.
"""

KEY_ROWS = """
APPEND                  2 1          wc
ARCOUNT                 1 1          r
ARDEL                   1 1          w
ARDELRANGE              1 1          w
ARGET                   1 1          r
ARGETRANGE              1 1          r
ARGREP                  1 1          r
ARINFO                  1 1          r
ARINSERT                1 1          wc
ARLASTITEMS             1 1          r
ARLEN                   1 1          r
ARMGET                  1 1          r
ARMSET                  1 1          wc
ARNEXT                  1 1          r
AROP                    1 1          r
ARRING                  1 1          wc
ARSCAN                  1 1          r
ARSEEK                  1 1          wc
ARSET                   1 1          wc
BITCOUNT                1 1          r
BITFIELD                1 1          wc
BITFIELD_RO             1 1          r
BITOP                   3 2..-1      wc
BITPOS                  2 1          r
BLMOVE                  5 1 2        wcb
BLMOVEM                 5 1 2        wcb
BLMPOP                  4 #2         wb   first
BLPOP                   2 1..-2      wb   first
BRPOP                   2 1..-2      wb   first
BRPOPLPUSH              3 1 2        wcb
BZMPOP                  4 #2         wb   first
BZPOPMAX                2 1..-2      wb   first
BZPOPMIN                2 1..-2      wb   first
COPY                    2 copy       wc
DECR                    1 1          wc
DECRBY                  2 1          wc
DEL                     1 1..-1      w
DELEX                   1 1          w
DELIFEQ                 2 1          w
DIGEST                  1 1          r
DUMP                    1 1          r
EVAL                    2 script     wc
EVALSHA                 2 script     wc
EVALSHA_RO              2 script     r
EVAL_RO                 2 script     r
EXISTS                  1 1..-1      r
EXPIRE                  2 1          wi
EXPIREAT                2 1          wi
EXPIRETIME              1 1          r
FCALL                   2 function   wc
FCALL_RO                2 function   r
GEOADD                  4 1          wc
GEODIST                 3 1          r
GEOHASH                 1 1          r
GEOPOS                  1 1          r
GEORADIUS               5 georadius  wc
GEORADIUSBYMEMBER       4 georadius  wc
GEORADIUSBYMEMBER_RO    4 1          r
GEORADIUS_RO            5 1          r
GEOSEARCH               6 1          r
GEOSEARCHSTORE          7 1 2        wc
GET                     1 1          r
GETBIT                  2 1          r
GETDEL                  1 1          w
GETEX                   1 1          w
GETRANGE                3 1          r
GETSET                  2 1          wc
HDEL                    2 1          w
HEXISTS                 2 1          r
HEXPIRE                 5 1          w
HEXPIREAT               5 1          w
HEXPIRETIME             4 1          r
HGET                    2 1          r
HGETALL                 1 1          r
HGETDEL                 4 1          w
HGETEX                  4 1          w
HIMPORT SET             2 2          wc
HINCRBY                 3 1          wc
HINCRBYFLOAT            3 1          wc
HKEYS                   1 1          r
HLEN                    1 1          r
HMGET                   2 1          r
HMSET                   3 1          wci
HPERSIST                4 1          w
HPEXPIRE                5 1          w
HPEXPIREAT              5 1          w
HPEXPIRETIME            4 1          r
HPTTL                   4 1          r
HRANDFIELD              1 1          r
HSCAN                   2 1          r
HSET                    3 1          wc
HSETEX                  5 1          wc
HSETNX                  3 1          wc
HSTRLEN                 2 1          r
HTTL                    4 1          r
HVALS                   1 1          r
INCR                    1 1          wc
INCRBY                  2 1          wc
INCRBYFLOAT             2 1          wc
INCREX                  1 1          wc
KEYS                    1 keys       r    names
LCS                     2 1 2        r
LINDEX                  2 1          r
LINSERT                 4 1          w
LLEN                    1 1          r
LMOVE                   4 1 2        wc
LMOVEM                  4 1 2        wc
LMPOP                   3 #1         w    first
LPOP                    1 1          w
LPOS                    2 1          r
LPUSH                   2 1          wc
LPUSHX                  2 1          w
LRANGE                  3 1          r
LREM                    3 1          w
LSET                    3 1          wi
LTRIM                   3 1          w
MEMORY USAGE            2 2          r
MGET                    0 1..-1      r
MSET                    2 1..-1/2    wci
MSETEX                  3 msetex     wc
MSETNX                  2 1..-1/2    wc
OBJECT ENCODING         2 2          r
OBJECT FREQ             2 2          r
OBJECT IDLETIME         2 2          r
OBJECT REFCOUNT         2 2          r
PERSIST                 1 1          w
PEXPIRE                 2 1          wi
PEXPIREAT               2 1          wi
PEXPIRETIME             1 1          r
PFADD                   1 1          wc
PFCOUNT                 1 1..-1      r
PFMERGE                 1 1..-1      wc
PSETEX                  3 1          wci
PTTL                    1 1          r
RENAME                  2 1 2        wc
RENAMENX                2 1 2        wc
RESTORE                 3 1          wc
RPOP                    1 1          w
RPOPLPUSH               2 1 2        wc
RPUSH                   2 1          wc
RPUSHX                  2 1          w
SADD                    2 1          wc
SCAN                    1 scan       r    scan
SCARD                   1 1          r
SDIFF                   1 1..-1      r
SDIFFCARD               2 #1         r
SDIFFSTORE              2 1..-1      wc
SET                     2 1          wci
SETBIT                  3 1          wc
SETEX                   3 1          wci
SETNX                   2 1          wc
SETRANGE                3 1          wc
SINTER                  1 1..-1      r
SINTERCARD              2 #1         r
SINTERSTORE             2 1..-1      wc
SISMEMBER               2 1          r
SMEMBERS                1 1          r
SMISMEMBER              2 1          r
SMOVE                   3 1 2        wc
SORT                    1 sort       wc
SORT_RO                 1 sort       r
SPOP                    1 1          w
SRANDMEMBER             1 1          r
SREM                    2 1          w
SSCAN                   2 1          r
STRALGO                 1 stralgo    r
STRLEN                  1 1          r
SUBSTR                  3 1          r
SUNION                  1 1..-1      r
SUNIONCARD              2 #1         r
SUNIONSTORE             2 1..-1      wc
TOUCH                   1 1..-1      r
TTL                     1 1          r
TYPE                    1 1          r
UNLINK                  1 1..-1      w
VADD                    2 1          wc
VCARD                   1 1          r
VDIM                    1 1          r
VEMB                    1 1          r
VGETATTR                1 1          r
VINFO                   1 1          r
VISMEMBER               1 1          r
VLINKS                  1 1          r
VRANDMEMBER             1 1          r
VRANGE                  1 1          r
VREM                    2 1          w
VSETATTR                2 1          wc
VSIM                    1 1          r
WATCH                   1 1..-1      r
XACK                    3 1          w
XACKDEL                 1 1          w
XADD                    4 1          wc
XAUTOCLAIM              5 1          w
XCFGSET                 1 1          w
XCLAIM                  5 1          w
XDEL                    2 1          w
XDELEX                  1 1          w
XGROUP CREATE           4 2          wc
XGROUP CREATECONSUMER   4 2          w
XGROUP DELCONSUMER      4 2          w
XGROUP DESTROY          3 2          w
XGROUP SETID            4 2          w
XIDMPRECORD             1 1          wc
XINFO CONSUMERS         3 2          r
XINFO GROUPS            2 2          r
XINFO STREAM            2 2          r
XLEN                    1 1          r
XNACK                   1 1          w
XPENDING                2 1          r
XRANGE                  3 1          r
XREAD                   3 xread      rb   streams
XREADGROUP              6 xreadgroup wb   streams
XREVRANGE               3 1          r
XSETID                  2 1          w
XTRIM                   3 1          w
ZADD                    3 1          wc
ZCARD                   1 1          r
ZCOUNT                  3 1          r
ZDIFF                   2 #1         r
ZDIFFSTORE              3 1 #2       wc
ZINCRBY                 3 1          wc
ZINTER                  2 #1         r
ZINTERCARD              2 #1         r
ZINTERSTORE             3 1 #2       wc
ZLEXCOUNT               3 1          r
ZMPOP                   3 #1         w    first
ZMSCORE                 2 1          r
ZPOPMAX                 1 1          w
ZPOPMIN                 1 1          w
ZRANDMEMBER             1 1          r
ZRANGE                  3 1          r
ZRANGEBYLEX             3 1          r
ZRANGEBYSCORE           3 1          r
ZRANGESTORE             4 1 2        wc
ZRANK                   2 1          r
ZREM                    2 1          w
ZREMRANGEBYLEX          3 1          w
ZREMRANGEBYRANK         3 1          w
ZREMRANGEBYSCORE        3 1          w
ZREVRANGE               3 1          r
ZREVRANGEBYLEX          3 1          r
ZREVRANGEBYSCORE        3 1          r
ZREVRANK                2 1          r
ZSCAN                   2 1          r
ZSCORE                  2 1          r
ZUNION                  2 #1         r
ZUNIONSTORE             3 1 #2       wc
"""
