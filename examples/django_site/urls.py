"""The example's pages. None of them fails while the server is away."""

import itertools

from django.core.cache import cache
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.cache import cache_control, cache_page
from django.views.decorators.http import require_POST

_computed = itertools.count(1)


def status(request):
    """Return what each template is told."""
    return {"now": timezone.now(), "is_away": cache.is_away}


def front(request):
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    cache.add("visits", 0, timeout=None)
    try:
        everybody = cache.incr("visits")
    except ValueError:
        # The server is away; the page is shown all the same.
        everybody = None
    context = {
        "name": session.get("name"),
        "mine": session["visits"],
        "everybody": everybody,
        "cleared": request.GET.get("cleared"),
    }
    return render(request, "front.html", context)


@require_POST
def login(request):
    # Another id for who logs in, as django.contrib.auth gives one.
    request.session.cycle_key()
    request.session["name"] = request.POST.get("name", "")[:40]
    return redirect(front)


@require_POST
def logout(request):
    request.session.flush()
    return redirect(front)


# For the site's cache only: no clear() reaches what browsers keep.
@cache_control(no_cache=True)
@cache_page(60)
def slow(request):
    response = render(request, "slow.html", {"number": next(_computed)})
    if cache.is_away:
        # This one says so, and is not to be kept until after the server is back.
        add_never_cache_headers(response)
    return response


async def counter(request):
    await cache.aadd("asynchronous", 0)
    try:
        count = await cache.aincr("asynchronous")
    except ValueError:
        count = None
    return render(request, "counter.html", {"count": count})


@require_POST
def clear(request):
    # What the server has not heard, this process tells it as soon as it is back.
    is_heard = cache.clear()
    return redirect(f"/?cleared={'now' if is_heard else 'later'}")


urlpatterns = [
    path("", front),
    path("login", login),
    path("logout", logout),
    path("slow", slow),
    path("counter", counter),
    path("clear", clear),
]
