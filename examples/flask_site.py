"""A Flask site whose cache, sessions and rate limits lie on a shared server: settings, and one line of code.

Run it with:  python examples/flask_site.py [URL]      (or serve it: flask --app flask_site:make run, on the
server that TENANTKV_URL names)
"""

import sys
from datetime import datetime, timezone

import flask
import flask_caching
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from tenantkv.contrib.flask import TenantKV

tenant = TenantKV()
cache = flask_caching.Cache()


def make(url: str | None = None) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(
        TENANTKV_URL=url,
        CACHE_TYPE="tenantkv.contrib.flask.TenantCache",
        CACHE_OPTIONS={"seal": True},
        SESSION_TYPE="tenantkv",
        SESSION_COOKIE_SAMESITE="Lax",
        RATELIMIT_STORAGE_URI=f"tenantkv+{url}" if url else "tenantkv://",
        RATELIMIT_STRATEGY="moving-window",
        # Each process limits by itself while the server is away.
        RATELIMIT_IN_MEMORY_FALLBACK_ENABLED=True,
    )
    tenant.init_app(app)
    cache.init_app(app)
    limiter = Limiter(get_remote_address, app=app)

    @app.context_processor
    def status() -> dict[str, object]:
        now = datetime.now(timezone.utc).strftime("%H:%M:%S.%f")
        return {"now": now, "is_away": tenant.cache.is_away}

    @app.get("/")
    def front() -> str:
        session = flask.session
        session["visits"] = session.get("visits", 0) + 1
        # None while the server is away.
        everybody = tenant.cache.incr("visits", initial=1)
        return flask.render_template("flask_site.html", everybody=everybody)

    @app.post("/login")
    def login() -> flask.typing.ResponseReturnValue:
        # Another id for who logs in.
        app.session_interface.regenerate(flask.session)
        flask.session["name"] = flask.request.form["name"][:40]
        return flask.redirect("/")

    @app.post("/logout")
    def logout() -> flask.typing.ResponseReturnValue:
        flask.session.clear()
        return flask.redirect("/")

    @app.get("/report")
    # What says that the server is away is not to be kept until after it is back.
    @cache.cached(timeout=60, response_filter=lambda _: not tenant.cache.is_away)
    def report() -> str:
        number = tenant.cache.incr("reports", initial=1)
        return flask.render_template("flask_site.html", page="report", number=number)

    @app.post("/clear")
    def clear() -> flask.typing.ResponseReturnValue:
        # What the server has not heard, this process tells it as soon as it is back.
        is_heard = cache.clear()
        return flask.redirect(f"/?cleared={'now' if is_heard else 'later'}")

    @app.get("/search")
    @limiter.limit("3/minute")
    def search() -> str:
        return flask.render_template("flask_site.html", page="search", found=True)

    @app.errorhandler(429)
    def slow_down(error: Exception) -> tuple[str, int]:
        return flask.render_template("flask_site.html", page="search", found=False), 429

    return app


def main(url: str = "embedded://?profile=shared") -> None:
    app = make(url)
    browser = app.test_client()

    def shows(path: str, text: str) -> bool:
        return text in browser.get(path).text

    browser.post("/clear")
    browser.post("/login", data={"name": "ada"})
    print("logged in:", shows("/", 'Hello, <span id="name">ada'))
    first = browser.get("/report").text
    print("cached:", first == browser.get("/report").text)
    browser.post("/clear")
    print("cleared:", first != browser.get("/report").text)
    print("searches:", [browser.get("/search").status_code for _ in range(5)])
    browser.post("/logout")
    print("logged out:", shows("/", "stranger"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
