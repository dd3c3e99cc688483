"""What the commands of the JSON, Bloom, TimeSeries and suggestion modules do with key names, as data.

One row a command: its name, the fewest arguments it takes, where its key names stand, flags, and the
shape of a reply that holds names. Positions count from 0, the command itself, with a subcommand as a
word of its own. Key names:

    1          the first argument            1 2        the first and the second
    1..-1      from the first to the last    1..-2      to the last but one
    1..-1/3    every third                   #1         a count at 1, then that many names
    a word     a parser of that name in `options.py`, for commands whose options decide

Flags: r reads, w writes, c may create a key, i may be repeated after a lost reply (same effect and same
answer), b blocks. Written by hand: module key specs
are wrong or missing on live servers.
"""

MODULE_ROWS = """
BF.ADD                  1 1          wc
BF.CARD                 1 1          r
BF.EXISTS               1 1          r
BF.INFO                 1 1          r
BF.INSERT               1 1          wc
BF.LOAD                 1 1          wc
BF.LOADCHUNK            1 1          wc
BF.MADD                 1 1          wc
BF.MEXISTS              1 1          r
BF.RESERVE              1 1          wc
BF.SCANDUMP             1 1          r
CF.ADD                  1 1          wc
CF.ADDNX                1 1          wc
CF.COMPACT              1 1          r
CF.COUNT                1 1          r
CF.DEL                  2 1          w
CF.EXISTS               1 1          r
CF.INFO                 1 1          r
CF.INSERT               1 1          wc
CF.INSERTNX             1 1          wc
CF.LOADCHUNK            1 1          wc
CF.MEXISTS              1 1          r
CF.RESERVE              1 1          wc
CF.SCANDUMP             1 1          r
CMS.INCRBY              1 1          wc
CMS.INFO                1 1          r
CMS.INITBYDIM           1 1          wc
CMS.INITBYPROB          1 1          wc
CMS.MERGE               3 1 #2       wc
CMS.QUERY               1 1          r
FT.SUGADD               3 1          wc
FT.SUGDEL               2 1          w
FT.SUGGET               1 1          r
FT.SUGLEN               1 1          r
JSON.ARRAPPEND          1 1          w
JSON.ARRINDEX           1 1          r
JSON.ARRINSERT          1 1          w
JSON.ARRLEN             1 1          r
JSON.ARRPOP             1 1          w
JSON.ARRTRIM            1 1          w
JSON.CLEAR              1 1          w
JSON.DEBUG MEMORY       2 2          r
JSON.DEL                1 1          w
JSON.FORGET             1 1          w
JSON.GET                1 1          r
JSON.MERGE              2 1          wc
JSON.MGET               2 1..-2      r
JSON.MSET               3 1..-1/3    wc
JSON.NUMINCRBY          1 1          w
JSON.NUMMULTBY          1 1          w
JSON.NUMPOWBY           1 1          w
JSON.OBJKEYS            1 1          r
JSON.OBJLEN             1 1          r
JSON.RESP               1 1          r
JSON.SET                2 1          wc
JSON.STRAPPEND          1 1          w
JSON.STRLEN             1 1          r
JSON.TOGGLE             1 1          w
JSON.TYPE               1 1          r
TDIGEST.ADD             1 1          wc
TDIGEST.BYRANK          1 1          r
TDIGEST.BYREVRANK       1 1          r
TDIGEST.CDF             1 1          r
TDIGEST.CREATE          1 1          wc
TDIGEST.INFO            1 1          r
TDIGEST.MAX             1 1          r
TDIGEST.MERGE           3 1 #2       wc
TDIGEST.MIN             1 1          r
TDIGEST.QUANTILE        1 1          r
TDIGEST.RANK            1 1          r
TDIGEST.RESET           1 1          wc
TDIGEST.REVRANK         1 1          r
TDIGEST.TRIMMED_MEAN    1 1          r
TOPK.ADD                1 1          wc
TOPK.COUNT              1 1          r
TOPK.INCRBY             1 1          wc
TOPK.INFO               1 1          r
TOPK.LIST               1 1          r
TOPK.QUERY              1 1          r
TOPK.RESERVE            1 1          wc
TS.ADD                  1 1          wc
TS.ALTER                1 1          w
TS.CREATE               1 1          wc
TS.CREATERULE           2 1 2        wc
TS.DECRBY               1 1          wc
TS.DEL                  1 1          w
TS.DELETERULE           2 1 2        w
TS.GET                  1 1          r
TS.INCRBY               1 1          wc
TS.INFO                 1 1          r    deep
TS.MADD                 3 1..-1/3    wc
TS.NRANGE               2 #1         r
TS.NREVRANGE            2 #1         r
TS.RANGE                1 1          r
TS.READ                 2 1          rb
TS.REVRANGE             1 1          r
"""
