"""Which tests of Celery and of channels_redis cannot pass, and why. Patterns of names -> reason."""

from __future__ import annotations

#: Whole files of Celery's that have nothing to do with a broker or backend on Redis.
FILES = {
    "test_backend.py": "Azure's storage",
    "test_backend_leak_in_fixture_teardown.py": "Celery's own fixtures",
    "test_beat.py": "beat without a broker; tests/integration/test_celery_programs.py runs it with ours",
    "test_cache_backend.py": "the cache backend",
    "test_database_backend.py": "the database backend",
    "test_events_state_memory_leak.py": "Celery's memory",
    "test_group_chains.py": "needs a Django project of Celery's own",
    "test_loader.py": "modules",
    "test_logfile_format.py": "log files",
    "test_mem_leak_in_exception_handling.py": "Celery's memory",
    "test_request_backend_down.py": "a backend of HTTP",
    "test_security.py": "Celery's signed messages",
    "test_serialization.py": "configures pickle",
    "test_upgrade.py": "settings files",
    "test_worker.py": "calls a program 'celery' with modules of Celery's checkout",
}

CELERY = {
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
