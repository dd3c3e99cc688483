"""For INSTALLED_APPS: ``"tenantkv.contrib.django"`` adds system checks and ``manage.py tenantkv``."""

from __future__ import annotations

from django.apps import AppConfig


class TenantKVConfig(AppConfig):
    """The application; it has no models."""

    name = "tenantkv.contrib.django"
    label = "tenantkv"
    verbose_name = "tenantkv"

    def ready(self) -> None:
        """Register the system checks."""
        from tenantkv.contrib.django import checks

        checks.register_all()
