"""The commands that name no key: which pass, which carry channels, and which are refused, with reasons.

Every refusal says why and what to do instead; the texts reach the user as they stand here.
"""

# Commands that touch nothing but this connection or the reader's own knowledge of the server.
# Columns as in core_table, without positions.
PASS_ROWS = """
ACL CAT                 1 r
ACL GENPASS             1 r
ACL HELP                1 r
ACL WHOAMI              1 r
ASKING                  0 r
AUTH                    1 r
CLIENT CACHING          2 r
CLIENT CAPA             2 r
CLIENT GETNAME          1 r
CLIENT GETREDIR         1 r
CLIENT HELP             1 r
CLIENT ID               1 r
CLIENT INFO             1 r
CLIENT MAINT_NOTIFICATIONS 2 r
CLIENT NO-TOUCH         2 r
CLIENT SETINFO          3 r
CLIENT SETNAME          2 r
CLIENT TRACKING         2 r      tracking
CLIENT TRACKINGINFO     1 r      deep
CLUSTER HELP            1 r
CLUSTER INFO            1 r
CLUSTER LINKS           1 r
CLUSTER MYID            1 r
CLUSTER MYSHARDID       1 r
CLUSTER NODES           1 r
CLUSTER REPLICAS        2 r
CLUSTER SHARDS          1 r
CLUSTER SLAVES          2 r
CLUSTER SLOTS           1 r
COMMAND                 0 r
COMMAND COUNT           1 r
COMMAND DOCS            1 r
COMMAND HELP            1 r
COMMAND INFO            1 r
COMMAND LIST            1 r
DISCARD                 0 w
ECHO                    1 r
EXEC                    0 w
HELLO                   0 r
HIMPORT DISCARD         2 r
HIMPORT DISCARDALL      1 r
HIMPORT PREPARE         3 r
INFO                    0 r
JSON.DEBUG HELP         1 r
LASTSAVE                0 r
LATENCY HELP            1 r
LOLWUT                  0 r
MEMORY HELP             1 r
MODULE HELP             1 r
MODULE LIST             1 r
MULTI                   0 w
OBJECT HELP             1 r
PING                    0 r
PUBSUB HELP             1 r
QUIT                    0 r
READONLY                0 r
READWRITE               0 r
ROLE                    0 r
SCRIPT EXISTS           2 r      script_exists
SCRIPT HELP             1 r
SCRIPT LOAD             2 r      script_load
SELECT                  1 r      select
TIME                    0 r
UNWATCH                 0 r
WAIT                    2 rb
WAITAOF                 3 rb
XGROUP HELP             1 r
XINFO HELP              1 r
"""

# Commands whose names are channels. The last column is the reply's shape; messages and
# acknowledgements of subscriptions are shaped apart, as they come without being asked for.
CHANNEL_ROWS = """
PSUBSCRIBE              1 1..-1  r
PUBLISH                 2 1      w
PUBSUB CHANNELS         1 channels r channels
PUBSUB NUMSUB           1 2..-1  r   channel_counts
PUBSUB SHARDCHANNELS    1 channels r channels
PUBSUB SHARDNUMSUB      1 2..-1  r   channel_counts
PUNSUBSCRIBE            0 1..-1  r
SPUBLISH                2 1      w
SSUBSCRIBE              1 1..-1  r
SUBSCRIBE               1 1..-1  r
SUNSUBSCRIBE            0 1..-1  r
UNSUBSCRIBE             0 1..-1  r
"""

# reason, what to do instead, commands
REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        "it deletes the keys of every tenant.",
        "Use flushdb(), which deletes only this namespace's keys.",
        "FLUSHALL, SFLUSH, TRIMSLOTS",
    ),
    (
        "the server's own form counts, picks or deletes among every tenant's keys.",
        "Call it on the client (dbsize(), randomkey(), flushdb()) outside of pipelines and "
        "transactions: it is emulated there for this namespace.",
        "DBSIZE, FLUSHDB, RANDOMKEY",
    ),
    (
        "it exchanges or enters a database that belongs to everybody.",
        "Use namespace.child(name) to keep data apart.",
        "MOVE, SWAPDB",
    ),
    (
        "it sends keys to another server under names that cannot be followed.",
        "Use dump() and restore().",
        "MIGRATE, RESTORE-ASKING",
    ),
    (
        "it shows commands, keys or values of other tenants.",
        "Nothing in a namespace needs it; ask the server's operator.",
        "MONITOR, SYNC, PSYNC, REPLCONF, HOTKEYS, BACKUP, CLUSTERSCAN, SLOWLOG, COMMANDLOG, LATENCY, "
        "CLUSTER GETKEYSINSLOT, CLUSTER COUNTKEYSINSLOT, CLUSTER SLOT-STATS, CLIENT LIST, "
        "PUBSUB NUMPAT, SCRIPT SHOW, MEMORY STATS, MEMORY DOCTOR, MEMORY MALLOC-STATS",
    ),
    (
        "it changes the server or its users for every tenant.",
        "Ask the server's operator.",
        "CONFIG, DEBUG, SHUTDOWN, FAILOVER, REPLICAOF, SLAVEOF, SAVE, BGSAVE, BGREWRITEAOF, PFDEBUG, "
        "PFSELFTEST, ACL, MODULE, MEMORY PURGE, CLUSTER",
    ),
    (
        "it stops, pauses or wakes other tenants' connections.",
        "Close your own connections with close().",
        "CLIENT KILL, CLIENT PAUSE, CLIENT UNPAUSE, CLIENT UNBLOCK, CLIENT NO-EVICT, CLIENT IMPORT-SOURCE",
    ),
    (
        "it would break the pairing of requests and replies on this pooled connection.",
        "Use a pipeline and ignore its results.",
        "CLIENT REPLY",
    ),
    (
        "it would drop this pooled connection's database, protocol and authentication.",
        "Close the client and connect again.",
        "RESET",
    ),
    (
        "scripts are cached for every tenant together.",
        "Nothing: a script that is not used costs you nothing.",
        "SCRIPT FLUSH, SCRIPT KILL, SCRIPT DEBUG",
    ),
    (
        "function libraries are visible to, and replaceable by, every tenant of the server.",
        "Use register_script() instead.",
        "FUNCTION",
    ),
    (
        "servers have crashed on odd arguments to it, and this server is everybody's.",
        "Use tenantkv.commands.key_positions(*arguments), which needs no server.",
        "COMMAND GETKEYS, COMMAND GETKEYSANDFLAGS",
    ),
    (
        "it selects time series by label among every tenant's.",
        "Query each series by its key (TS.RANGE, TS.GET).",
        "TS.MGET, TS.MRANGE, TS.MREVRANGE, TS.QUERYINDEX, TS.QUERYLABELS",
    ),
    (
        "it is not a command: servers close the connection on it as a sign of an attack.",
        "",
        "HOST:, POST",
    ),
)

# Families of which no member may pass unless it has a row of its own.
REFUSED_FAMILIES: dict[str, tuple[str, str]] = {
    "FT.": (
        "search indexes are global to the server and select documents of every tenant.",
        "Ask for an own instance, or declare a command whose names you know with "
        "tenantkv.commands.register(name, keys).",
    ),
    "_FT.": ("search internals are global to the server.", ""),
}
