"""dramatiq on a shared server.

Workers, in a terminal of their own::

    dramatiq dramatiq_tasks --processes 1 --threads 2

Enqueue::

    python dramatiq_tasks.py
"""

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

import tenantkv

kv = tenantkv.connect(max_connections=8)
# Its own maintenance asks for KEYS inside a script, which a shared server does not have; `requeue_lost`
# below does that part of the work with the names that are known.
broker = RedisBroker(client=kv, maintenance_chance=0)
dramatiq.set_broker(broker)

# KEYS[1]  the heartbeats (sorted set of worker ids, by Unix time in ms)
# KEYS[2]  the queue (list of message ids)
# KEYS[3]  the messages (hash of id to message)
# KEYS[4]  what a worker took and did not acknowledge (set of message ids)
# ARGV[1]  the worker's id
# ARGV[2]  a worker is dead if its last heartbeat is older than this, Unix time in ms
# returns  how many messages went back to the queue
REQUEUE = """
local seen = redis.call('ZSCORE', KEYS[1], ARGV[1])
if seen and tonumber(seen) > tonumber(ARGV[2]) then return 0 end
local count = 0
for _, id in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  if redis.call('HEXISTS', KEYS[3], id) == 1 then
    redis.call('RPUSH', KEYS[2], id)
    count = count + 1
  end
end
redis.call('DEL', KEYS[4])
return count
"""


def requeue_lost(broker: RedisBroker) -> int:
    """Give back the messages of workers that died; call it every minute from one process."""
    space, requeue = broker.namespace, broker.client.register_script(REQUEUE)
    before = int(time.time() * 1000) - broker.heartbeat_timeout
    heartbeats = f"{space}:__heartbeats__"
    count = 0
    for worker in broker.client.zrangebyscore(heartbeats, 0, before):
        name = worker if isinstance(worker, str) else worker.decode()
        for queue in (*broker.get_declared_queues(), *broker.get_declared_delay_queues()):
            queue_key = f"{space}:{queue}"
            keys = [heartbeats, queue_key, f"{queue_key}.msgs", f"{space}:__acks__.{name}.{queue}"]
            count += requeue(keys=keys, args=[name, before])
        broker.client.zremrangebyscore(heartbeats, 0, before)
    return count


@dramatiq.actor(max_retries=3, min_backoff=50, max_backoff=50)
def count_words(text: str, result: str) -> None:
    kv.set(result, len(text.split()), ex=600)


@dramatiq.actor(max_retries=3, min_backoff=50, max_backoff=50)
def fail_once(result: str) -> None:
    if kv.incr(f"tries:{result}") == 1:
        raise ValueError("the first time always fails")
    kv.set(result, "second time", ex=600)


if __name__ == "__main__":
    from dramatiq_tasks import count_words as actor

    actor.send("one two three", "words")
