"""Which tests of Celery, kombu and channels_redis cannot pass, and why. Patterns of names -> reason.

Of kombu's, ``t/integration`` is run. ``t/unit/transport/virtual`` tests kombu's own base classes with its own
transports, so that nothing of ours would be tested, and ``t/unit/transport/test_redis.py`` puts mocks in the
place of the clients that ours are.
"""

from __future__ import annotations

#: Whole files of Celery's that need what is not there.
FILES = {
    "test_backend.py": "Azure's storage",
    "test_cache_backend.py": "memcached",
    "test_database_backend.py": "SQLAlchemy",
}

CELERY = {
    "test_canvas.py::test_chord::test_chord_on_error": (
        "reads a chord's parts with a raw client and without a namespace"
    ),
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_*_cancels_subscription": (
        "compares the server's channels with names without a namespace"
    ),
    "test_tasks.py::test_trace_log_arguments::*": "fails on stock Redis too, in this way of running it",
    "test_tasks.py::test_tasks::test_revoked_by_headers_complex_canvas": "fails on stock Redis too",
    "test_worker.py::test_concurrency_auto_sizes_prefork_pool": (
        "starts a worker in a process where redis:// is the stock transport, and they never meet"
    ),
    "test_connection_recovery.py::*": (
        "looks for a BRPOP after the first poll, and ours asks with a script first; "
        "tests/integration/test_celery_outages.py has the cases"
    ),
    "test_redis_backend.py::test_decode_responses_disables_compression": (
        "replaces the backend's client by one that decodes, and sealed results are no text"
    ),
    "test_redis_backend.py::test_chord_part_return_records_each_header_task_once*": (
        "writes a part of a chord without a seal, which is what a forger does; it is dropped"
    ),
    "test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_0": (
        "forgets what it heard if the worker is quicker than the next line; on stock Redis too, under load"
    ),
    "test_worker.py::test_pidbox_reset_after_repeated_control_errors": (
        "marked as flaky there: while another thread of the process runs a task, nobody may wait for a result"
    ),
}

_SEALED = "reads a sealed binding or message with a client of its own"
_PREFIXED = "looks for names with '_prefixed_' in front, which is a namespace of its own here"
_CLAIMS = "looks for a delivery tag among what is held, where claims have names of their own"

KOMBU = {
    "test_redis.py::*::test_queue_expiration_set?connection1?": _PREFIXED,
    "test_redis.py::*::test_expiration_gets_reset_on_*?connection1?": _PREFIXED,
    "test_redis.py::*::test_queue_expires_for_all_priorities?connection1?": _PREFIXED,
    "test_redis.py::*::test_binding_table_*?connection1?": _PREFIXED,
    "test_redis.py::*::test_deleting_an_expiring_queue_removes_its_binding*": _SEALED,
    "test_redis.py::*::test_refresh_keeps_a_topic_binding_as_bound*": _SEALED,
    "test_redis.py::*::test_refresh_and_sweep_binding_scripts*": _SEALED,
    "test_redis.py::*::test_fanout_is_deferred_until_flush*": _SEALED,
    "test_redis.py::test_RedisRestoreVisible::*": _CLAIMS,
    "test_redis.py::test_RedisRestoreAtShutdown::*": _CLAIMS,
    "test_redis.py::test_RedisRestoreBindingLookupFailure::*": (
        "lets a look at the bindings fail, and ours puts a message back into its list without one"
    ),
    "test_redis.py::test_event_loop_consumes_after_connection_reconnect*BRPOP?": (
        "calls the readers itself, and takes the ring of a bell, which is no message, for an error"
    ),
    "test_redis_brpop_qos.py::test_hub_pauses_pending_brpop_until_ack?message?": (
        "expects the message in BRPOP's reply; ours asks for it when the bell has rung"
    ),
    "test_redis_brpop_qos.py::test_drain_events_resumes_pending_brpop_without_resending": (
        "expects the message in BRPOP's reply; ours asks for it when the bell has rung"
    ),
}

CHANNELS = {
    "test_core.py::test_groups_multiple_hosts*": "several servers for one layer: there is one",
    "test_core.py::test_random_reset__client_prefix": "looks into channels_redis; ours is a UUID",
    "test_core.py::test_*_group_key_format": "looks into channels_redis; names of keys are derived here",
    "test_core.py::test_receive_buffer_respects_capacity": "looks into channels_redis",
    "test_pubsub.py::test_loop_instance_channel_layer_reference": "looks into channels_redis",
    "test_pubsub.py::test_*serialize": "looks into channels_redis",
    "test_pubsub.py::test_multi_event_loop_garbage_collection": "looks into channels_redis",
    "test_pubsub.py::test_auto_reconnect": "looks into channels_redis",
}
