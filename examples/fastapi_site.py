"""A FastAPI site with sessions on the server and a cache for its answers.

Run it with:  python examples/fastapi_site.py [URL]      (or serve it: uvicorn --factory fastapi_site:make)
"""

import asyncio
import sys

import fastapi
import httpx
from fastapi_cache import FastAPICache
from fastapi_cache.decorator import cache

from tenantkv.contrib.fastapi_cache import TenantBackend
from tenantkv.contrib.starlette import TenantSessionMiddleware, regenerate


def make(url: str = "embedded://?profile=shared") -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.add_middleware(TenantSessionMiddleware, url=url)
    FastAPICache.init(TenantBackend(url=url, seal=True), prefix="site")
    computed = []

    @app.post("/login/{name}")
    async def login(request: fastapi.Request, name: str) -> str:
        regenerate(request)
        request.session["name"] = name
        return name

    @app.get("/me")
    async def me(request: fastapi.Request) -> str:
        return str(request.session.get("name", "nobody"))

    @app.post("/logout")
    async def logout(request: fastapi.Request) -> str:
        request.session.clear()
        return "bye"

    @app.get("/report")
    @cache(expire=60, namespace="reports")
    async def report() -> dict[str, int]:
        computed.append("report")
        return {"computed": len(computed)}

    @app.post("/publish")
    async def publish() -> int:
        return await FastAPICache.clear("reports")

    return app


async def main(url: str = "embedded://?profile=shared") -> None:
    site = httpx.ASGITransport(make(url))
    async with httpx.AsyncClient(transport=site, base_url="http://site") as browser:
        await browser.post("/publish")
        print((await browser.post("/login/ada")).json(), "->", (await browser.get("/me")).json())
        answers = [await browser.get("/report") for _ in range(2)]
        print([(answer.json()["computed"], answer.headers["x-fastapi-cache"]) for answer in answers])
        await browser.post("/publish")
        print("published:", (await browser.get("/report")).json())
        print("logged out:", (await browser.post("/logout")).json(), (await browser.get("/me")).json())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
