"""Does a name say that its value is a secret?

A name is split at case changes and punctuation, and judged by its words: ``dbPassword`` is one,
``password_count`` and ``nextPageToken`` are not. Names of one piece (``dbpassword``) are judged by how
they end.
"""

from __future__ import annotations

import re
from functools import lru_cache

# How much a name says. PASSWORD also takes what a person would choose as a value; WEAK (token,
# session, cookie) names so many ordinary things that the value must look random.
NONE, WEAK, STRONG, PASSWORD = 0, 1, 2, 3

MAX_NAME_BYTES = 64

_WORDS = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_COMPONENTS = re.compile(rb"[:/|.#@\s]+")


def _set(words: str) -> frozenset[bytes]:
    return frozenset(words.encode().split())


_PASSWORD = _set("password passwords passwd passphrase passcode passwort kennwort pwd passw senha contrasena")
_STRONG = _set(
    "secret secrets credential credentials creds authorization apikey appkey seckey privkey sshkey psk"
)
_WEAK = _set("auth cookie cookies session sessionid sessid phpsessid jsessionid sid pass pw otp totp jwt")
# What makes a key or token a secret one; "key" alone and most of its compounds are ordinary.
_SECRET_KEYS = _set(
    "secret api app private priv access signing sign encryption encrypt encrypted decryption master "
    "account shared auth service crypt crypto cipher hmac ssh license server deploy admin root storage "
    "write subscription instrumentation host certificate cert tls ssl aes rsa jwt webhook security "
    "session consumer"
)
_WEAK_KEYS = _set("session consumer host server license subscription instrumentation write certificate cert")
_SECRET_TOKENS = _set(
    "access refresh auth oauth oauth2 bearer api bot secret personal service app user session login reset "
    "verification activation device registration vault github gitlab slack npm pypi deploy ci account "
    "security jwt private admin root webhook telegram discord deployment runner job agent bitbucket "
    "twilio stripe sentry grafana magic invite recovery upload"
)
_ORDINARY_TOKENS = _set(
    "next page prev previous continuation sync pagination cursor idempotency concurrency change resume "
    "delta start public design color stop pad eos bos max min num per total special unk mask sep cls end "
    "first last prompt completion input output cached reasoning csrf xsrf request"
)
# As the last word: about the secret, not the secret.
_ABOUT = _set(
    "count counts id ids url urls uri type types name names length len size limit limits expires expiry "
    "expiration expired expire ttl at on date time timestamp age max min policy policies rule rules hint "
    "reset field fields label placeholder number index idx version status state error errors message text "
    "title description class style path file filename dir directory format algorithm algo alg method "
    "provider scheme strength enabled disabled required valid invalid validation visible visibility "
    "changed updated created rotated last endpoint host hostname port user username usage manager event "
    "events link page form input prompt button icon seconds minutes hours days ms in out param params "
    "parameter parameters header headers prefix suffix pattern regex column key_id arn ref reference "
    "source location domain samesite secure httponly validator validators hasher hashers backend backends "
    "help store vault engine flow grant attempts retries score protection issuer audience scope scopes "
    "lifetime rotation"
)
# As the first word: a question or an action.
_ASKING = _set(
    "is has have had no not use uses using need needs require requires required forgot forgotten show "
    "hide enable enables enabled disable disabled allow allows allowed can should must num count total "
    "max min public next previous prev reset change update generate generated if with without csrf xsrf"
)
# As a component of a key: what is stored there is about the thing that is named after it.
_ABOUT_OTHERS = _set(
    "lock locks mutex lease leases semaphore ratelimit ratelimits limiter throttle stats metrics attempts "
    "revoked denylist blacklist blocklist audit log logs queue index"
)
_PASSWORD_ENDS = (b"password", b"passwd", b"passphrase", b"passwort", b"passw", b"pwd")
_STRONG_ENDS = (
    *(b"secret", b"secretkey", b"apikey", b"accesskey", b"privatekey", b"encryptionkey", b"signingkey"),
    *(b"masterkey", b"accountkey", b"authkey", b"sshkey", b"cryptkey", b"authtoken", b"accesstoken"),
    *(b"refreshtoken", b"apitoken", b"bottoken", b"oauthtoken", b"usertoken", b"credential", b"credentials"),
)
_WEAK_ENDS = (b"sessionid", b"sessid", b"sessiontoken", b"sessionkey", b"logintoken")


@lru_cache(maxsize=8192)
def classify(name: bytes) -> int:
    """Return how much one name says: `NONE`, `WEAK`, `STRONG` or `PASSWORD`."""
    words = [word.lower() for word in _WORDS.findall(name[:MAX_NAME_BYTES])]
    if not words or words[-1] in _ABOUT:
        return NONE
    # "reset_password" is an action and "reset_token" a secret.
    if len(words) > 1 and words[0] in _ASKING and not (words[0] in _SECRET_TOKENS and words[1] == b"token"):
        return NONE
    best = max(_judge(word, words[number - 1] if number else b"") for number, word in enumerate(words))
    if best == WEAK and not _ABOUT.isdisjoint(words):
        return NONE
    # "token_hash" and "session_digest" show that somebody thought about it; "password_hash" is cracked.
    if best < PASSWORD and words[-1] in (b"hash", b"digest", b"checksum", b"sha", b"fingerprint"):
        return NONE
    return best


def _judge(word: bytes, before: bytes) -> int:
    """Judge one word of a name, knowing the word in front of it."""
    if word in _PASSWORD or word.endswith(_PASSWORD_ENDS):
        return PASSWORD
    if word in _STRONG or word.endswith(_STRONG_ENDS):
        return STRONG
    if word == b"key" and before in _SECRET_KEYS:
        return WEAK if before in _WEAK_KEYS else STRONG
    if word == b"token":
        if before in _ORDINARY_TOKENS:
            return NONE
        return STRONG if before in _SECRET_TOKENS else WEAK
    if word in _WEAK or word.endswith(_WEAK_ENDS):
        return WEAK
    return NONE


@lru_cache(maxsize=8192)
def classify_path(name: bytes) -> int:
    """Return how much a key's own name says: that of the last of its components that says anything.

    ``app:db:password`` and ``password:alice`` both name a password; ``password:count`` does not.
    """
    parts = [part for part in _COMPONENTS.split(name[-256:]) if part]
    if parts and parts[-1].lower() in _ABOUT:
        return NONE
    if any(part.lower() in _ABOUT_OTHERS for part in parts):
        return NONE
    # What stands in front of an id or a tenant's name is at most a few levels up.
    for part in reversed(parts[-4:]):
        if kind := classify(part):
            return kind
    return NONE


# Every word that can make a name count has one of these in it.
_SAYING = re.compile(
    rb"pass|pwd|pw|senha|kennwort|contrasena|secret|cred|authoriz|key|auth|cookie|sess|sid|otp|jwt|psk|token"
)
_HINTS = re.compile(rb"conf|env|setting|login|vault|sign|hmac|salt|seed|cert|" + _SAYING.pattern)


def may_say(name: bytes) -> bool:
    """Tell cheaply whether judging a name could come to anything but `NONE`."""
    return _SAYING.search(name.lower(), 0, 256) is not None


def has_hint(name: bytes) -> bool:
    """Tell whether a name makes a random-looking value suspicious, though it names no secret."""
    return _HINTS.search(name.lower(), 0, 256) is not None
