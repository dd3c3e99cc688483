"""Settings of the example; CACHES and the SESSION lines are what it is about."""

import os
from pathlib import Path

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example")
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
ROOT_URLCONF = "urls"
USE_TZ = True
TIME_ZONE = "UTC"

INSTALLED_APPS = [
    "django.contrib.sessions",
    "tenantkv.contrib.django",  # for `manage.py check` and `manage.py tenantkv`
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "OPTIONS": {"context_processors": ["urls.status"]},
    }
]

CACHES = {
    "default": {
        "BACKEND": "tenantkv.contrib.django.TenantCache",
        # No LOCATION: TENANTKV_URL, TOOL_REDIS_URI or REDIS_URL says where the server is.
        "TIMEOUT": 300,
        "OPTIONS": {"single_flight": True},
    },
    # A cache of their own, so that clear() of the other one logs nobody out.
    "sessions": {
        "BACKEND": "tenantkv.contrib.django.TenantCache",
        "OPTIONS": {"name": "sessions"},
    },
}
# "django.contrib.sessions.backends.cache" works as well, but logs everybody out in an outage.
SESSION_ENGINE = "tenantkv.contrib.django.sessions"
SESSION_CACHE_ALIAS = "sessions"
