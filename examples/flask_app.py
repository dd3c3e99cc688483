"""A Flask application on a shared server: sessions, a cache and a rate limit through one client.

flask --app flask_app run
"""

import flask
import limits
import limits.storage
import limits.strategies
from flask_caching import Cache
from flask_session import Session

import tenantkv

# registry=True lets cache.clear() find its keys on a server without KEYS and SCAN.
kv = tenantkv.connect(registry=True)

app = flask.Flask(__name__)
app.config.update(
    SESSION_TYPE="redis",
    SESSION_REDIS=kv,
    CACHE_TYPE="RedisCache",
    CACHE_REDIS_HOST=kv,  # a client is as welcome as a host name
    CACHE_KEY_PREFIX="cache:",  # without one, clear() would empty the whole namespace
)
Session(app)
cache = Cache(app)

storage = limits.storage.RedisStorage("redis://", connection_pool=kv.connection_pool)
limiter = limits.strategies.MovingWindowRateLimiter(storage)
PER_MINUTE = limits.parse("5/minute")


@app.before_request
def limit() -> tuple[str, int] | None:
    if flask.request.endpoint == "limited" and not limiter.hit(PER_MINUTE, flask.request.remote_addr):
        return "slow down", 429
    return None


@app.get("/visits")
def visits() -> dict[str, int]:
    flask.session["visits"] = flask.session.get("visits", 0) + 1
    return {"visits": flask.session["visits"]}


@app.get("/slow")
@cache.cached(timeout=60)
def slow() -> str:
    return f"computed {kv.incr('computed')} times"


@app.post("/clear")
def clear() -> str:
    return str(cache.clear())


@app.post("/logout")
def logout() -> str:
    flask.session.clear()
    return "bye"


@app.get("/limited")
def limited() -> str:
    return "welcome"
