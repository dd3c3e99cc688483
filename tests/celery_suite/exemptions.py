"""Which tests of Celery and of channels_redis cannot pass, and why. Patterns of names -> reason."""

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
    "test_canvas.py::*test_chord_header_id_duplicated_on_rabbitmq_msg_duplication*": (
        "puts an object into a message that JSON cannot hold; stock Redis refuses it as well"
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
