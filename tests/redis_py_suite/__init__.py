"""redis-py's own tests, run through our client and compared with plain redis-py.

* ``sources``: gets the tests of the installed redis-py; nothing of them is kept in this repository.
* ``plugin``, ``swap``: a pytest plugin for their run, which gives their fixtures our clients.
* ``run``: starts servers, runs the files both ways, and compares test by test.
* ``exemptions``: what may fail, and why.

``python -m tests.redis_py_suite.run --help`` runs it by hand.
"""
