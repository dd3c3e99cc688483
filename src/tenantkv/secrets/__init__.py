"""The plaintext-secret detector: would this value be a secret that everybody on the server can read?

A seat belt for the honest mistake, not data-loss prevention: whoever means to store a secret in clear
can. It is pure (bytes in, a finding out), looks at a bounded part of a value in bounded time, and no
finding, error or counter ever holds the value or a part of it.

Three tiers (`docs/secrets.md` has every rule):

1. known formats: tokens with a vendor's prefix, private keys, credentials in URLs, password hashes;
2. fields named like a secret with a value that looks like one, in JSON, forms, headers, INI, XML,
   pickles and msgpack, in the hash field's name and in the key's own name;
3. high entropy where the name gives a hint: warned about, never refused.

::

    detector.py        Detector, Finding, Allowance: which rule does a value meet?
    policy.py          Policy, PlaintextWarning: refuse, warn or let pass, and count
    formats.py         tier 1, by the rows of formats_table.py
    fields.py          tier 2, named fields inside values
    names.py           does a name say "secret"?
    shapes.py          does a value look like one?
"""

from tenantkv.secret import Secret
from tenantkv.secrets.detector import Allowance, Detector, Finding, rules
from tenantkv.secrets.policy import Mode, PlaintextWarning, Policy

__all__ = [
    "Allowance",
    "Detector",
    "Finding",
    "Mode",
    "PlaintextWarning",
    "Policy",
    "Secret",
    "rules",
]
