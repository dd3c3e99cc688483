"""Django's own tests of caches, sessions, cache middleware and template fragments, against our backend.

They come from the source distribution of the Django that is installed, and are never copied into this
repository. `python -m tests.django_suite.run` runs them in a process of their own.
"""
