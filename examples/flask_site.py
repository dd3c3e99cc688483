"""A Flask site whose cache, sessions and rate limits lie on a shared server: settings, and one line of code.

Run it with:  python examples/flask_site.py [URL]      (or serve it: flask --app flask_site:make run)
"""

import sys

import flask
import flask_caching
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from tenantkv.contrib.flask import TenantKV

tenant = TenantKV()
cache = flask_caching.Cache()


def make(url: str = "embedded://?profile=shared") -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(
        TENANTKV_URL=url,
        CACHE_TYPE="tenantkv.contrib.flask.TenantCache",
        CACHE_OPTIONS={"seal": True},
        SESSION_TYPE="tenantkv",
        RATELIMIT_STORAGE_URI="tenantkv://" if not url else f"tenantkv+{url}",
        RATELIMIT_STRATEGY="moving-window",
    )
    tenant.init_app(app)
    cache.init_app(app)
    limiter = Limiter(get_remote_address, app=app)

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask.session["name"] = name
        return f"hello {name}"

    @app.get("/me")
    def me() -> str:
        return str(flask.session.get("name", "nobody"))

    @app.post("/logout")
    def logout() -> str:
        flask.session.clear()
        return "bye"

    @app.get("/report")
    @cache.cached(timeout=60)
    def report() -> str:
        with tenant.lock("report", lease=30, wait=5):
            return f"computed {tenant.kv.incr('reports')} times"

    @app.post("/publish")
    def publish() -> str:
        tenant.queue("published").send({"what": "report"})
        return str(cache.clear())

    @app.get("/search")
    @limiter.limit("3/minute")
    def search() -> str:
        return "found"

    return app


def main(url: str = "embedded://?profile=shared") -> None:
    app = make(url)
    with app.app_context():
        tenant.kv.delete("reports")
    browser = app.test_client()
    print(browser.post("/login/ada").text, "->", browser.get("/me").text)
    print(browser.get("/report").text, "->", browser.get("/report").text)
    print("published:", browser.post("/publish").text, "->", browser.get("/report").text)
    print("searches:", [browser.get("/search").status_code for _ in range(5)])
    print("logged out:", browser.post("/logout").text, browser.get("/me").text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
