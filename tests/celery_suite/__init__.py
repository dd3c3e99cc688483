"""Celery's integration tests and channels_redis's tests, against our transport, backend and layers."""
