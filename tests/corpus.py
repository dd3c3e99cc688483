"""A labelled corpus for the secret detector: generated, seeded, and never real.

Nothing here is a secret or was one. Tokens are put together at run time from parts, so that no scanner of
a code host takes this file for a leak; keep it so.
"""

# Rows of data and words, whatever their length.
# ruff: noqa: E501, SIM905

from __future__ import annotations

import base64
import hashlib
import html
import json
import pickle
import random
import string
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode

ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "-_"
HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"
LOWER = string.ascii_lowercase + string.digits

WORDS = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point home "
    "water room mother area money story fact month lot right study book eye job word business issue side kind "
    "head house service friend father power hour game line end member law car city community name president "
    "team minute idea body information back parent face others level office door health person art war history "
    "party result change morning reason research girl guy moment air teacher force education keyboard monkey "
    "passage compass session token author authority passenger secretary cookie key password keys bypass"
).split()


def letters(rng: random.Random, alphabet: str, size: int) -> str:
    return "".join(rng.choices(alphabet, k=size))


def base64_of(rng: random.Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


def jwt(rng: random.Random) -> str:
    def part(document: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    header = {"alg": rng.choice(["HS256", "RS256"]), "typ": "JWT"}
    claims = {"sub": str(rng.randrange(10**9)), "iat": rng.randrange(10**9), "scope": rng.choice(WORDS)}
    return ".".join((part(header), part(claims), letters(rng, URLSAFE, rng.choice([43, 86, 342]))))


def _snowflake(rng: random.Random) -> str:
    return base64.urlsafe_b64encode(str(rng.randrange(10**17, 10**18)).encode()).decode().rstrip("=")


# A rule, and how a thing that it must find is made.
FORMATS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    ("aws-access-key", lambda r: r.choice(["AK", "AS"]) + "IA" + letters(r, BASE32, 16)),
    ("aws-bedrock-key", lambda r: "AB" + "SK" + letters(r, ALNUM, 100)),
    ("github-token", lambda r: "gh" + r.choice("pousr") + "_" + letters(r, ALNUM, 36)),
    ("github-token", lambda r: "github" + "_pat_" + letters(r, ALNUM, 22) + "_" + letters(r, ALNUM, 59)),
    ("gitlab-token", lambda r: "gl" + r.choice(["pat", "dt", "rt", "ptt"]) + "-" + letters(r, URLSAFE, 20)),
    (
        "slack-token",
        lambda r: "xo" + r.choice(["xb", "xp", "xa"]) + "-" + letters(r, string.digits, 12) + "-" + letters(r, ALNUM, 24),
    ),
    (
        "slack-token",
        lambda r: f"xa{'pp'}-1-A{letters(r, BASE32, 10)}-{letters(r, string.digits, 13)}-{letters(r, HEX, 64)}",
    ),
    ("stripe-key", lambda r: r.choice("sr") + "k_" + r.choice(["live", "test"]) + "_" + letters(r, ALNUM, 24)),
    ("stripe-webhook-secret", lambda r: "wh" + "sec_" + letters(r, ALNUM, 32)),
    ("google-api-key", lambda r: "AI" + "za" + letters(r, URLSAFE, 35)),
    ("google-oauth-secret", lambda r: "GOC" + "SPX-" + letters(r, URLSAFE, 28)),
    ("google-access-token", lambda r: "ya" + "29." + letters(r, URLSAFE, 120)),
    ("google-refresh-token", lambda r: "1/" + "/0" + letters(r, URLSAFE, 60)),
    ("azure-client-secret", lambda r: letters(r, ALNUM, 3) + "8" + "Q~" + letters(r, ALNUM, 34)),
    ("npm-token", lambda r: "np" + "m_" + letters(r, ALNUM, 36)),
    ("pypi-token", lambda r: "py" + "pi-Ag" + "E" + letters(r, URLSAFE, 150)),
    ("docker-token", lambda r: "dckr" + "_pat_" + letters(r, URLSAFE, 27)),
    ("rubygems-key", lambda r: "ruby" + "gems_" + letters(r, HEX, 48)),
    ("cargo-token", lambda r: "ci" + "o" + letters(r, ALNUM, 32)),
    ("nuget-key", lambda r: "oy" + "2" + letters(r, LOWER, 43)),
    ("sendgrid-key", lambda r: "S" + "G." + letters(r, URLSAFE, 22) + "." + letters(r, URLSAFE, 43)),
    ("mailgun-key", lambda r: "ke" + "y-" + letters(r, HEX, 32)),
    ("brevo-key", lambda r: "xkey" + "sib-" + letters(r, HEX, 64) + "-" + letters(r, ALNUM, 16)),
    ("openai-key", lambda r: "s" + "k-" + letters(r, ALNUM, 20) + "T3Blbk" + "FJ" + letters(r, ALNUM, 20)),
    ("openai-key", lambda r: "s" + "k-proj-" + letters(r, URLSAFE, 120)),
    ("anthropic-key", lambda r: "s" + "k-ant-" + "api03-" + letters(r, URLSAFE, 93) + "AA"),
    ("openrouter-key", lambda r: "s" + "k-or-v1-" + letters(r, HEX, 64)),
    ("huggingface-token", lambda r: "h" + "f_" + letters(r, ALNUM, 34)),
    ("replicate-token", lambda r: "r" + "8_" + letters(r, ALNUM, 37)),
    ("groq-key", lambda r: "gs" + "k_" + letters(r, ALNUM, 52)),
    ("perplexity-key", lambda r: "ppl" + "x-" + letters(r, ALNUM, 48)),
    ("xai-key", lambda r: "xa" + "i-" + letters(r, ALNUM, 80)),
    ("vault-token", lambda r: "hv" + r.choice("sb") + "." + letters(r, URLSAFE, 90)),
    ("terraform-token", lambda r: letters(r, ALNUM, 14) + ".atlas" + "v1." + letters(r, ALNUM, 67)),
    ("shopify-token", lambda r: "shp" + r.choice(["at", "ca", "pa", "ss"]) + "_" + letters(r, HEX, 32)),
    ("square-token", lambda r: "sq0" + "csp-" + letters(r, URLSAFE, 43)),
    ("square-token", lambda r: "EA" + "AA" + letters(r, URLSAFE, 60)),
    ("telegram-token", lambda r: letters(r, "123456789", 10) + ":" + "AA" + letters(r, URLSAFE, 33)),
    ("discord-token", lambda r: _snowflake(r) + "." + letters(r, ALNUM, 6) + "." + letters(r, URLSAFE, 38)),
    ("twilio-key", lambda r: "S" + "K" + letters(r, HEX, 32)),
    ("digitalocean-token", lambda r: "do" + r.choice("por") + "_v1_" + letters(r, HEX, 64)),
    ("cloud-platform-token", lambda r: "s" + "bp_" + letters(r, HEX, 40)),
    ("cloud-platform-token", lambda r: "dp." + "pt." + letters(r, ALNUM, 43)),
    ("cloud-platform-token", lambda r: "da" + "pi" + letters(r, HEX, 32)),
    (
        "cloud-platform-token",
        lambda r: "ts" + "key-auth-" + letters(r, ALNUM, 12) + "CNTRL-" + letters(r, ALNUM, 32),
    ),
    ("cloud-platform-token", lambda r: "HR" + "KU-" + str(uuid.UUID(int=r.getrandbits(128)))),
    ("developer-token", lambda r: "lin" + "_api_" + letters(r, ALNUM, 40)),
    ("developer-token", lambda r: "nt" + "n_" + letters(r, ALNUM, 46)),
    ("developer-token", lambda r: "PM" + "AK-" + letters(r, HEX, 24) + "-" + letters(r, HEX, 34)),
    ("developer-token", lambda r: "pa" + "t" + letters(r, ALNUM, 14) + "." + letters(r, HEX, 64)),
    ("developer-token", lambda r: "ATA" + "TT3" + letters(r, URLSAFE, 180)),
    ("monitoring-token", lambda r: "NR" + "AK-" + letters(r, BASE32, 27)),
    ("monitoring-token", lambda r: "gl" + "sa_" + letters(r, ALNUM, 32) + "_" + letters(r, HEX, 8)),
    ("monitoring-token", lambda r: "sntr" + "yu_" + letters(r, HEX, 64)),
    ("jwt", jwt),
    ("private-key", lambda r: f"-----BEGIN {r.choice(['RSA ', 'EC ', '', 'OPENSSH '])}PRIVATE " + "KEY-----"),
    ("private-key", lambda r: "AGE-" + "SECRET-KEY-1" + letters(r, BASE32, 58)),
    ("private-key", lambda r: "PuTTY-" + "User-Key-File-" + r.choice("23") + ": ssh-ed25519"),
    ("webhook-url", lambda r: "https://hooks.sl" + f"ack.com/services/T{letters(r, BASE32, 8)}/B{letters(r, ALNUM, 34)}"),
    (
        "webhook-url",
        lambda r: "https://disc" + f"ord.com/api/webhooks/{r.randrange(10**17, 10**18)}/{letters(r, URLSAFE, 68)}",
    ),
    ("url-credentials", lambda r: f"postgres://{r.choice(['', 'app'])}:{letters(r, ALNUM, 12)}@db.internal:5432/app"),
    ("password-hash", lambda r: "$2b" + "$12$" + letters(r, ALNUM, 53)),
    ("password-hash", lambda r: "$argon2" + f"id$v=19$m=65536,t=3,p=4${letters(r, ALNUM, 22)}${letters(r, ALNUM, 43)}"),
    ("password-hash", lambda r: f"pbkdf2_sha{'256'}$600000${letters(r, ALNUM, 22)}${letters(r, ALNUM, 43)}="),
    ("password-hash", lambda r: f"scrypt:{'32768'}:8:1${letters(r, ALNUM, 16)}${letters(r, HEX, 128)}"),
    ("password-hash", lambda r: "$6" + f"${letters(r, ALNUM, 16)}${letters(r, ALNUM, 86)}"),
)  # fmt: skip

HEADERS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    ("authorization-header", lambda r: "Bearer " + letters(r, URLSAFE, 40)),
    (
        "authorization-header",
        lambda r: "Basic " + base64.b64encode(f"app:{letters(r, ALNUM, 12)}".encode()).decode(),
    ),
)

NAMES = (
    "password passwd db_password dbPassword DB_PASSWORD user-password PGPASSWORD mysql.password smtpPassword pwd "
    "passphrase new_password confirmPassword sshPassphrase admin_pwd "
    "secret client_secret clientSecret consumer_secret access_secret oauth_token_secret SECRET_KEY secret_key "
    "api_key apiKey apikey X-Api-Key private_key access_key signing_key encryption_key masterKey account_key "
    "access_token accessToken refresh_token auth_token authToken bearer_token bot_token oauth_token GITHUB_TOKEN "
    "credential aws_secret_access_key personal_access_token webhook_secret jwt_secret hmac_key"
).split()

# Names that sound like a secret's, with values that look like one.
INNOCENT_NAMES = (
    "password_count passwordLength password_reset_url password_changed_at forgot_password password_hint token_type "
    "tokenType next_page_token nextPageToken pageToken continuation_token sync_token token_count max_tokens "
    "tokens_used total_tokens secret_name secretName is_secret has_password require_password show_password key "
    "keys keyword primary_key foreign_key cache_key routing_key sort_key partition_key public_key idempotency_key "
    "translation_key object_key key_id access_key_id session_id author authors authority authored_at secretary "
    "passenger compass monkey keyboard tokenizer csrf_token csrfmiddlewaretoken xsrf-token _auth_user_hash "
    "client_id auth_type auth_url login_url api_key_id token_expires_at cookie_domain session_name"
).split()


def passwords(rng: random.Random) -> str:
    """Return a value as people and generators make them."""
    kinds: tuple[Callable[[], str], ...] = (
        lambda: letters(rng, HEX, 40),
        lambda: letters(rng, HEX, 32),
        lambda: letters(rng, ALNUM, 16),
        lambda: base64_of(rng, 32),
        lambda: letters(rng, URLSAFE, 43),
        lambda: rng.choice(WORDS).title() + str(rng.randrange(1000, 9999)) + rng.choice("!@#$%"),
        lambda: rng.choice(WORDS) + "-" + letters(rng, ALNUM, 8) + "-" + str(rng.randrange(10, 99)),
        lambda: letters(rng, ALNUM + "!@#%^*+=?", 20),
    )
    return rng.choice(kinds)()


def msgpack(value: object) -> bytes:
    """Pack text, flags, small integers, lists and mappings, so that the tests need no library for it."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, str):
        raw = value.encode()
        if len(raw) < 32:
            return bytes([0xA0 | len(raw)]) + raw
        return (
            b"\xd9" + bytes([len(raw)]) if len(raw) < 256 else b"\xda" + struct.pack(">H", len(raw))
        ) + raw
    if isinstance(value, dict):
        body = b"".join(msgpack(key) + msgpack(item) for key, item in value.items())
        return bytes([0x80 | len(value)]) + body
    if isinstance(value, list):
        return bytes([0x90 | len(value)]) + b"".join(map(msgpack, value))
    return b"\xce" + struct.pack(">I", int(str(value)))


def containers(name: str, value: str) -> Iterator[tuple[str, bytes]]:
    """Yield a named value in everything that programs put into Redis."""
    record = {"id": 17, "label": "some text", name: value, "active": 1}
    yield "json", json.dumps(record).encode()
    yield "json compact", json.dumps(record, separators=(",", ":")).encode()
    yield "json in json", json.dumps({"body": json.dumps(record)}).encode()
    yield "deep json", json.dumps({"data": {"items": [record]}}, indent=2).encode()
    yield "repr", repr(record).encode()
    yield "form", urlencode(record).encode()
    yield "query", f"https://api.test/v1/x?a=1&{name}={quote(value)}&b=2".encode()
    yield "header", f"Host: a.test\r\n{name}: {value}\r\nAccept: */*\r\n".encode()
    yield "ini", f"[client]\nuser = app\n{name} = {value}\nport=1\n".encode()
    yield "xml", f"<c><id>17</id><{name}>{html.escape(value)}</{name}></c>".encode()
    yield "php", f's:2:"id";i:1;s:{len(name)}:"{name}";s:{len(value)}:"{value}";'.encode()
    yield "msgpack", msgpack(record)
    for protocol in (2, 3, 4, 5):
        yield f"pickle {protocol}", pickle.dumps(record, protocol)


def sentences(rng: random.Random, count: int) -> str:
    return " ".join(
        rng.choice(WORDS).capitalize() + " " + " ".join(rng.choices(WORDS, k=8)) + "." for _ in range(count)
    )


def identifiers(rng: random.Random) -> str:
    kinds: tuple[Callable[[], str], ...] = (
        lambda: str(uuid.UUID(int=rng.getrandbits(128))),
        lambda: uuid.UUID(int=rng.getrandbits(128)).hex,
        lambda: hashlib.sha1(rng.randbytes(8)).hexdigest(),
        lambda: hashlib.sha256(rng.randbytes(8)).hexdigest(),
        lambda: letters(rng, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26),
        lambda: letters(rng, URLSAFE, 11),
        lambda: letters(rng, URLSAFE, 21),
        lambda: base64_of(rng, rng.randrange(6, 40)),
        lambda: str(rng.randrange(10 ** rng.randrange(1, 20))),
        lambda: f"{rng.random() * 1000:.6f}",
        lambda: f"2026-0{rng.randrange(1, 9)}-1{rng.randrange(9)}T0{rng.randrange(9)}:15:00Z",
        lambda: rng.choice(WORDS) + "-" + rng.choice(WORDS) + "-" + str(rng.randrange(1000)),
    )
    return rng.choice(kinds)()


def record(rng: random.Random) -> dict[str, object]:
    """Return what a JSON API answers with."""
    host = rng.choice(WORDS)
    return {
        "id": rng.randrange(10**9),
        "node_id": base64_of(rng, 20),
        "uuid": str(uuid.UUID(int=rng.getrandbits(128))),
        "author": {
            "login": rng.choice(WORDS),
            "email": f"{rng.choice(WORDS)}@{host}.test",
            "site_admin": False,
        },
        "url": f"https://api.{host}.test/repos/{rng.choice(WORDS)}/{identifiers(rng)}?page={rng.randrange(9)}",
        "avatar": f"https://cdn.{host}.test/u/{rng.randrange(10**8)}?v=4&s={letters(rng, HEX, 32)}",
        "sha": letters(rng, HEX, 40),
        "etag": f'W/"{letters(rng, HEX, 32)}"',
        "title": sentences(rng, 1),
        "tags": rng.choices(WORDS, k=4),
        rng.choice(INNOCENT_NAMES): identifiers(rng),
        "next": {
            rng.choice(("next_page_token", "nextPageToken", "cursor", "page_token")): base64_of(rng, 24)
        },
        "usage": {"prompt_tokens": rng.randrange(9999), "completion_tokens": 17, "total_tokens": 99},
        "created_at": "2026-01-01T00:00:00Z",
        "score": rng.random(),
    }


def page(rng: random.Random) -> str:
    token = letters(rng, ALNUM, 64)
    return (
        f"<!doctype html><html><head><title>{rng.choice(WORDS)}</title><link rel=preload href='/static/{letters(rng, HEX, 20)}.js'>"
        f"<style>.password {{ color: #a1b2c3; }} .session-token{{width:10px}}</style></head><body class='token-{rng.randrange(99)}'>"
        f"<form action='/login?next=/a/b'><input type='hidden' name='csrf_token' value='{token}'>"
        "<label for='password'>Password:</label><input type='password' name='password' id='password' required>"
        f"<a href='/password/reset'>Forgot password?</a></form><p>{html.escape(sentences(rng, 3))}</p>"
        f"<img src='data:image/png;base64,{base64_of(rng, 300)}'><script>$(function() {{ $('.x').on('click', $.noop); }});"
        f"var key = 'abc'; var token = getToken(); var password = $('#password').val();</script></body></html>"
    )


def wikitext(rng: random.Random) -> str:
    return (
        f"== {rng.choice(WORDS).title()} ==\n'''{sentences(rng, 2)}''' [[{rng.choice(WORDS)}|{rng.choice(WORDS)}]] "
        f"{{{{cite web|url=https://example.test/{rng.choice(WORDS)}?id={rng.randrange(10**6)}|title={sentences(rng, 1)}"
        f'|access-date=2026-01-02}}}}<ref name="key">{sentences(rng, 1)}</ref>\n* {{{{ISBN|978-3-16-148410-{rng.randrange(9)}}}}}\n'
        f"The password policy: a password needs eight letters. Token: a word. Secret: see [[Secret]].\n"
    )


def celery_message(rng: random.Random) -> str:
    task = str(uuid.UUID(int=rng.getrandbits(128)))
    body = base64.b64encode(
        json.dumps([[rng.randrange(99)], {"name": rng.choice(WORDS)}, {}]).encode()
    ).decode()
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": "app.tasks.reset_password",
                "id": task,
                "root_id": task,
                "argsrepr": "(1,)",
            },
            "properties": {
                "correlation_id": task,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "delivery_tag": str(uuid.UUID(int=rng.getrandbits(128))),
                "body_encoding": "base64",
            },
        }
    )


def session(rng: random.Random) -> dict[str, object]:
    """Return what Django and Flask keep of a visitor, form token included."""
    return {
        "_auth_user_id": str(rng.randrange(10**6)),
        "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
        "_auth_user_hash": letters(rng, HEX, 64),
        "_csrftoken": letters(rng, ALNUM, 32),
        "csrf_token": letters(rng, HEX, 40),
        "_permanent": True,
        "_fresh": True,
        "_id": letters(rng, HEX, 128),
        "cart": [rng.randrange(999) for _ in range(3)],
        "session_id": letters(rng, URLSAFE, 43),
    }


def source(rng: random.Random) -> str:
    """Return a template or a piece of code that speaks of secrets without holding one."""
    return rng.choice(
        (
            "password = getpass.getpass()\ntoken = request.headers.get('token')\nconnect(password=password)\n",
            "def login(user: str, password: str, token: str | None = None) -> bool: ...\n",
            "PASSWORD=${PASSWORD}\nAPI_KEY=<your key>\nSECRET_KEY=changeme\nTOKEN={{ token }}\n",
            '{"password": "Passwort", "forgot_password": "Passwort vergessen?", "token": "Token"}',
            '{"properties": {"password": {"type": "string", "minLength": 8}, "token": {"type": "string"}}}',
            '{"password": null, "token": "", "secret": "********", "api_key": "[FILTERED]"}',
            "postgres://user:password@localhost/db redis://:****@h http://${USER}:${PASS}@h",
            '{"errors": {"password": ["Password is too short."], "token": ["Invalid token"]}}',
            "docker://alpine:3.19@sha256:" + letters(rng, HEX, 64),
            "The Bearer scheme and Basic authentication are described in RFC 7617. Basic knowledge helps.",
        )
    )


# A kind of ordinary value: a key's name, and the value.
ORDINARY: tuple[tuple[str, Callable[[random.Random], tuple[str, bytes]]], ...] = (
    ("id", lambda r: ("user:" + str(r.randrange(999)), identifiers(r).encode())),
    ("json record", lambda r: ("api:cache:" + letters(r, HEX, 8), json.dumps(record(r)).encode())),
    (
        "json list",
        lambda r: ("page:" + str(r.randrange(9)), json.dumps([record(r) for _ in range(5)]).encode()),
    ),
    ("pickle", lambda r: ("obj:" + str(r.randrange(9)), pickle.dumps(record(r), r.choice([2, 3, 4, 5])))),
    ("msgpack", lambda r: ("m:1", msgpack({name: identifiers(r) for name in r.sample(INNOCENT_NAMES, 8)}))),
    ("compressed", lambda r: ("z:1", zlib.compress(json.dumps(record(r)).encode()))),
    ("random bytes", lambda r: ("blob:1", r.randbytes(r.randrange(10, 4000)))),
    (
        "image",
        lambda r: ("thumb:1", b"data:image/jpeg;base64," + base64_of(r, r.randrange(100, 6000)).encode()),
    ),
    ("html", lambda r: ("view:index", page(r).encode())),
    ("wikitext", lambda r: ("wiki:" + r.choice(WORDS), wikitext(r).encode())),
    ("text", lambda r: ("doc:1", sentences(r, r.randrange(1, 40)).encode())),
    ("celery", lambda r: ("celery", celery_message(r).encode())),
    (
        "rq",
        lambda r: (
            "rq:job:" + str(uuid.UUID(int=r.getrandbits(128))),
            zlib.compress(pickle.dumps(("app.f", None, (1,), {}))),
        ),
    ),
    (
        "django session",
        lambda r: (":1:django.contrib.sessions.cache" + letters(r, LOWER, 32), pickle.dumps(session(r))),
    ),
    (
        "flask session",
        lambda r: ("session:" + letters(r, URLSAFE, 43), r.choice([msgpack, _json])(session(r))),
    ),
    (
        "session to user",
        lambda r: ("session:" + letters(r, HEX, 32), str(uuid.UUID(int=r.getrandbits(128))).encode()),
    ),
    ("denylist", lambda r: ("token:revoked:" + letters(r, HEX, 32), r.choice([b"1", b"revoked", b"true"]))),
    ("lock", lambda r: ("lock:" + r.choice(WORDS), letters(r, HEX, 32).encode())),
    ("lock owner", lambda r: ("lock:" + r.choice(WORDS), r.randbytes(16))),
    ("counter", lambda r: ("password:attempts:" + r.choice(WORDS), str(r.randrange(99)).encode())),
    ("innocent name", lambda r: (r.choice(INNOCENT_NAMES), identifiers(r).encode())),
    ("source", lambda r: ("tpl:1", source(r).encode())),
    (
        "csv",
        lambda r: (
            "csv:1",
            "\n".join(",".join(identifiers(r) for _ in range(6)) for _ in range(20)).encode(),
        ),
    ),
)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
