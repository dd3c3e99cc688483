"""The proxy: RESP for programs in other languages, on the same table and keyring as the clients.

`requests.py`, `replies.py` and `answers.py` do no I/O; `conversation.py` is one client and its one connection
to the server (`upstream.py`); `local.py` has the commands that the proxy answers by itself; `server.py`
listens.
"""
