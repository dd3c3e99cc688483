"""Known formats, one row each: what `formats.py` looks for and `docs/secrets.md` lists.

Patterns hold no unbounded and no nested quantifier, so that each attempt ends within a bounded time.
"""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """A token that its vendor made recognisable.

    Attributes:
        rule: the rule's name.
        starts: how a run of token characters begins; at least two bytes each.
        pattern: matched where it begins.
        what: what it is, for the docs.
        before: must match right before it, where the format is not one run; empty for none.
    """

    rule: str
    starts: tuple[bytes, ...]
    pattern: bytes
    what: str
    before: bytes = b""


# A run is 20 or more of A-Z a-z 0-9 _ -, and the detector looks at its beginning only.
FORMATS = (
    Format("aws-access-key", (b"AKIA", b"ASIA", b"ABIA", b"ACCA"), rb"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9_-])", "AWS access key"),
    Format("aws-bedrock-key", (b"ABSK",), rb"ABSK[A-Za-z0-9+/]{60,300}", "AWS Bedrock API key"),
    Format("github-token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"gh[pousr]_[A-Za-z0-9_]{30,255}", "GitHub token"),
    Format("github-token", (b"github_pat_",), rb"github_pat_[A-Za-z0-9]{20,30}_[A-Za-z0-9]{50,90}", "GitHub fine-grained token"),
    Format("gitlab-token", (b"gl",), rb"gl(?:pat|ptt|dt|rt|rtr|cbt|agent|soat|ft|imt|ffct|oas)-[A-Za-z0-9_=-]{20,300}", "GitLab token"),
    Format("slack-token", (b"xo",), rb"xox[abcdeoprs]-[A-Za-z0-9-]{10,300}", "Slack token"),
    Format("slack-token", (b"xa",), rb"xapp-\d-[A-Z0-9]{5,20}-\d{5,20}-[a-f0-9]{20,80}", "Slack app token"),
    Format("stripe-key", (b"sk_", b"rk_"), rb"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,250}", "Stripe key"),
    Format("stripe-webhook-secret", (b"whsec_",), rb"whsec_[A-Za-z0-9+/]{24,100}", "Stripe or Svix webhook secret"),
    Format("google-api-key", (b"AIza",), rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", "Google API key"),
    Format("google-oauth-secret", (b"GOCSPX-",), rb"GOCSPX-[A-Za-z0-9_-]{28}", "Google OAuth client secret"),
    Format("google-access-token", (), rb"[A-Za-z0-9_-]{20,500}", "Google access token", rb"ya29\."),
    Format("google-refresh-token", (), rb"0[A-Za-z0-9_-]{38,300}", "Google refresh token", rb"1//"),
    Format("npm-token", (b"npm_",), rb"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])", "npm token"),
    Format("pypi-token", (b"pypi-",), rb"pypi-AgE[A-Za-z0-9_-]{50,1000}", "PyPI token"),
    Format("docker-token", (b"dckr_",), rb"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,100}", "Docker token"),
    Format("rubygems-key", (b"rubygems_",), rb"rubygems_[a-f0-9]{48}", "RubyGems key"),
    Format("cargo-token", (b"cio",), rb"cio[A-Za-z0-9]{32}(?![A-Za-z0-9_-])", "crates.io token"),
    Format("nuget-key", (b"oy2",), rb"oy2[a-z0-9]{43}(?![A-Za-z0-9_-])", "NuGet key"),
    Format("sendgrid-key", (), rb"[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}", "SendGrid key", rb"SG\."),
    Format("mailgun-key", (b"key-",), rb"key-[a-f0-9]{32}(?![A-Za-z0-9])", "Mailgun key"),
    Format("brevo-key", (b"xkeysib-", b"xsmtpsib-"), rb"x(?:key|smtp)sib-[a-f0-9]{64}-[A-Za-z0-9]{16}", "Brevo key"),
    Format("openai-key", (b"sk-",), rb"sk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,300}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|[A-Za-z0-9]{48}(?![A-Za-z0-9]))", "OpenAI key"),
    Format("anthropic-key", (b"sk-ant-",), rb"sk-ant-[a-z]{2,10}\d{2}-[A-Za-z0-9_-]{40,200}", "Anthropic key"),
    Format("openrouter-key", (b"sk-or-",), rb"sk-or-v1-[a-f0-9]{64}", "OpenRouter key"),
    Format("huggingface-token", (b"hf_",), rb"hf_[A-Za-z0-9]{30,60}(?![A-Za-z0-9_-])", "Hugging Face token"),
    Format("replicate-token", (b"r8_",), rb"r8_[A-Za-z0-9]{37}(?![A-Za-z0-9_-])", "Replicate token"),
    Format("groq-key", (b"gsk_",), rb"gsk_[A-Za-z0-9]{40,60}", "Groq key"),
    Format("perplexity-key", (b"pplx-",), rb"pplx-[A-Za-z0-9]{40,60}", "Perplexity key"),
    Format("xai-key", (b"xai-",), rb"xai-[A-Za-z0-9]{60,100}", "xAI key"),
    Format("vault-token", (), rb"[A-Za-z0-9_-]{24,300}", "HashiCorp Vault token", rb"hv[sbr]\."),
    Format("terraform-token", (), rb"[A-Za-z0-9_=-]{60,80}", "Terraform Cloud token", rb"\.atlasv1\."),
    Format("shopify-token", (b"shp",), rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", "Shopify token"),
    Format("square-token", (b"sq0",), rb"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}", "Square token"),
    Format("square-token", (b"EAAA",), rb"EAAA[A-Za-z0-9_-]{60}(?![A-Za-z0-9_+/=-])", "Square access token", rb"(?:^|[^+/A-Za-z0-9_-])"),
    Format("telegram-token", (b"AA",), rb"AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])", "Telegram bot token", rb"\d{8,10}(?::|%3[aA])"),
    Format("discord-token", tuple(bytes((a, b)) for a in b"MNO" for b in b"DTjz"), rb"[MNO][DTjz][A-Za-z0-9_-]{21,26}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}(?![A-Za-z0-9_-])", "Discord bot token"),
    Format("twilio-key", (b"SK",), rb"SK[0-9a-f]{32}(?![A-Za-z0-9_-])", "Twilio API key"),
    Format("digitalocean-token", (b"dop_", b"doo_", b"dor_"), rb"do[por]_v1_[a-f0-9]{64}", "DigitalOcean token"),
    Format("cloud-platform-token", (b"HRKU-",), rb"HRKU-[A-Za-z0-9_-]{36,64}", "Heroku key"),
    Format("cloud-platform-token", (b"fm1", b"fm2", b"fo1"), rb"f(?:m[12]|o1)_[A-Za-z0-9_+/=-]{40,500}", "Fly.io token"),
    Format("cloud-platform-token", (b"sbp_",), rb"sbp_[a-f0-9]{40}", "Supabase token"),
    Format("cloud-platform-token", (b"sb_secret_",), rb"sb_secret_[A-Za-z0-9_-]{20,60}", "Supabase secret key"),
    Format("cloud-platform-token", (b"pscale_",), rb"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_=-]{32,64}", "PlanetScale token"),
    Format("cloud-platform-token", (b"tskey-",), rb"tskey-[a-z]{2,12}-[A-Za-z0-9]{8,20}-[A-Za-z0-9]{20,50}", "Tailscale key"),
    Format("cloud-platform-token", (b"dapi",), rb"dapi[a-f0-9]{32}(?![A-Za-z0-9_])", "Databricks token"),
    Format("cloud-platform-token", (), rb"[A-Za-z0-9]{40,44}(?![A-Za-z0-9_-])", "Doppler token", rb"dp\.(?:pt|st|ct|sa|scim|audit)(?:\.[a-z0-9_-]{2,35})?\."),
    Format("cloud-platform-token", (b"LTAI",), rb"LTAI[A-Za-z0-9]{16,24}(?![A-Za-z0-9_-])", "Alibaba access key"),
    Format("cloud-platform-token", (b"ops_eyJ",), rb"ops_eyJ[A-Za-z0-9_-]{100,1000}", "1Password service account"),
    Format("developer-token", (b"lin_api_",), rb"lin_api_[A-Za-z0-9]{40}", "Linear key"),
    Format("developer-token", (b"ntn_",), rb"ntn_[A-Za-z0-9]{40,60}", "Notion token"),
    Format("developer-token", (b"secret_",), rb"secret_[A-Za-z0-9]{43}(?![A-Za-z0-9_-])", "Notion token, older"),
    Format("developer-token", (b"PMAK-",), rb"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", "Postman key"),
    Format("developer-token", (b"figd_", b"figo_"), rb"fig[do]_[A-Za-z0-9_-]{40,80}", "Figma token"),
    Format("developer-token", (b"ATATT3", b"ATCTT3", b"ATBB"), rb"AT(?:[AC]TT3[A-Za-z0-9_=-]{60,400}|BB[A-Za-z0-9]{32}(?![A-Za-z0-9_-]))", "Atlassian token"),
    Format("developer-token", (), rb"[a-f0-9]{64}", "Airtable token", rb"pat[A-Za-z0-9]{14}\."),
    Format("developer-token", (b"CFPAT-",), rb"CFPAT-[A-Za-z0-9_-]{43}", "Contentful token"),
    Format("developer-token", (b"tfp_",), rb"tfp_[A-Za-z0-9_-]{40,80}", "Typeform token"),
    Format("developer-token", (b"shippo_",), rb"shippo_(?:live|test)_[a-f0-9]{40}", "Shippo token"),
    Format("developer-token", (b"access-",), rb"access-(?:sandbox|development|production)-[a-f0-9-]{36}", "Plaid token"),
    Format("monitoring-token", (b"NRAK-", b"NRJS-", b"NRII-"), rb"NR(?:AK|JS|II)-[A-Za-z0-9_-]{19,40}", "New Relic key"),
    Format("monitoring-token", (b"glsa_",), rb"glsa_[A-Za-z0-9]{32}_[a-fA-F0-9]{8}", "Grafana service account"),
    Format("monitoring-token", (b"glc_eyJ",), rb"glc_eyJ[A-Za-z0-9_-]{30,400}", "Grafana Cloud token"),
    Format("monitoring-token", (b"sntrys_", b"sntryu_"), rb"sntry(?:s_eyJ[A-Za-z0-9_=+/-]{60,500}|u_[a-f0-9]{64})", "Sentry token"),
    Format("monitoring-token", (b"phx_",), rb"phx_[A-Za-z0-9]{40,60}", "PostHog key"),
    Format("monitoring-token", (b"dt0",), rb"dt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}", "Dynatrace token"),
    Format("jwt", (b"eyJ",), rb"eyJ[A-Za-z0-9_-]{10,2000}\.(?:eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{16,1000}|[A-Za-z0-9_-]{0,800}\.[A-Za-z0-9_-]{8,100}\.[A-Za-z0-9_-]{1,8000}\.[A-Za-z0-9_-]{16,100})", "JSON web token, also of MediaWiki's OAuth 2"),
    Format("private-key", (b"PuTTY-User-Key-File-",), rb"PuTTY-User-Key-File-[23]", "PuTTY key"),
    Format("private-key", (b"AGE-SECRET-KEY-1",), rb"AGE-SECRET-KEY-1[0-9A-Z]{50,60}", "age key"),
    Format("private-key", (b"b3BlbnNzaC1rZXktdjE",), rb"b3BlbnNzaC1rZXktdjE", "OpenSSH key without its armour"),
)  # fmt: skip

# Found by a string rather than as a run: (rule, the string, pattern at it, what). Looking for one costs a
# pass over the value, so each stands for several rows or is rare;
# `formats.py` looks for these strings (or a rare byte of them) before it comes here.
MARKS = (
    ("private-key", b"-----BEGIN", rb"-----BEGIN(?:[A-Z0-9 +]|%20){1,40}PRIVATE(?: |\+|%20)KEY", "private key in PEM or PGP armour"),
    ("webhook-url", b"hook", rb"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Z0-9][A-Za-z0-9/_-]{20,150}", "Slack webhook"),
    ("webhook-url", b"hook", rb"hooks/\d{15,22}/[A-Za-z0-9_-]{50,100}", "Discord webhook"),
    ("webhook-url", b"hook", rb"hook\.office\.com/webhookb2/[A-Za-z0-9@/-]{60,250}", "Teams webhook"),
    ("azure-client-secret", b"Q~", rb"(?<=\d)Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])", "Azure client secret"),
)  # fmt: skip

# Password hashes, looked for only in values that have a dollar; each begins at its first dollar.
HASHES = (
    rb"\$(?:2[abxy]\$\d\d\$[./A-Za-z0-9]{53}|argon2(?:id|i|d)\$v=\d{1,3}\$m=\d{1,9},"
    rb"|[156]\$(?:rounds=\d{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{22,86}"
    rb"|(?:y|gy|7)\$[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9$]{20,130}"
    rb"|(?:scrypt|pbkdf2(?:-sha\d{1,3})?)\$[./A-Za-z0-9=,$]{20,200}"
    rb"|apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}"
    # Werkzeug: scrypt:32768:8:1$salt$hex.
    rb"|(?<=\d\$)[A-Za-z0-9]{6,32}\$[0-9a-f]{40,128}"
    # Django: pbkdf2_sha256$600000$salt$base64 and scrypt$salt$16384$8$1$base64.
    rb"|(?<=_sha\d\d\d\$)\d{1,9}\$[A-Za-z0-9]{1,64}\$[A-Za-z0-9+/=]{20,100}"
    rb"|(?<=2_sha1\$)\d{1,9}\$[A-Za-z0-9]{1,64}\$[A-Za-z0-9+/=]{20,100}"
    rb"|(?<=scrypt\$)[A-Za-z0-9]{1,64}\$\d{1,9}\$\d{1,4}\$\d{1,4}\$[A-Za-z0-9+/=]{20,200})"
)

# Rules that are not rows above: what they mean, for the docs.
OTHERS = {
    "own-keyring": (1, "this namespace's own prefix or key material, anywhere in the value"),
    "url-credentials": (1, "a password in a URL: `scheme://user:password@host`"),
    "authorization-header": (1, "`Bearer` with a token, `Basic` with a user and password"),
    "password-hash": (1, "bcrypt, argon2, scrypt, pbkdf2 (also Django's and Werkzeug's), crypt(3)"),
    "named-password": (2, "a name such as `password`, `dbPasswd` or `pwd`, with a value that could be one"),
    "named-secret": (2, "a name such as `client_secret`, `apiKey` or `access_token`, with a value that could be one"),
    "named-token": (2, "a name such as `token`, `cookie` or `sid`, with a random value of 16 bytes or more, no UUID"),
    "high-entropy": (3, "32 to 256 random characters, and a name that hints at keys or configuration; only warned about"),
}  # fmt: skip
