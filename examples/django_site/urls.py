"""The example's pages."""

import itertools

from django.core.cache import cache
from django.http import HttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.cache import cache_page
from django.views.decorators.http import require_POST

from tenantkv.contrib.django.locks import lock

PAGE = engines["django"].from_string("""<!doctype html>
<title>Example</title>
<h1>Hello, {{ name|default:"stranger" }}</h1>
<p>You were here {{ mine }} times{% if everybody %}, and everybody {{ everybody }} times{% endif %}.</p>
<p><a href="/slow">a cached page</a></p>
<form method="post" action="/login"><input name="name" placeholder="name"><button>log in</button></form>
<form method="post" action="/clear"><button>clear the cache</button></form>
""")
_computed = itertools.count(1)


def front(request):
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    cache.add("visits", 0, timeout=None)
    try:
        everybody = cache.incr("visits")
    except ValueError:
        # The server is away; the page is shown all the same.
        everybody = None
    context = {"name": session.get("name"), "mine": session["visits"], "everybody": everybody}
    return HttpResponse(PAGE.render(context))


@require_POST
def login(request):
    request.session.cycle_key()
    request.session["name"] = request.POST.get("name", "")[:40]
    return front(request)


@cache_page(60)
def slow(request):
    return HttpResponse(f"computed {next(_computed)} times")


async def counter(request):
    await cache.aadd("asynchronous", 0)
    return HttpResponse(str(await cache.aincr("asynchronous")))


@require_POST
def clear(request):
    with lock("clear", wait=5):
        cache.clear()
    return HttpResponse("cleared")


urlpatterns = [
    path("", front),
    path("login", login),
    path("slow", slow),
    path("counter", counter),
    path("clear", clear),
]
