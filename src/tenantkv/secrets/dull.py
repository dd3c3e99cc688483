"""Most short values have nothing in them that even begins like a secret: told at half the cost.

Laws of this file:

1. What is dull is nothing to `find_format` and `find_field`, with whatever is skipped; what is not dull may
   still be nothing to them. `tests/unit/test_dull.py` holds both against each other.
2. One look by one expression over the whole value. It looks for rarer letters of what it means, as those of
   `ANY_STEM` do, since the engine tries it wherever one of its first letters stands.
"""

from __future__ import annotations

import re

from tenantkv.secrets.fields import ANY_STEM, FEW_BYTES
from tenantkv.secrets.formats import has_format_run
from tenantkv.secrets.pickles import is_old_pickle

# Over a value in lower case: a stem of a name; "hook", "Q~" and "-----BEGIN", which are the marks; what
# stands in URLs with credentials, hashes and escapes; "bearer " and "basic ".
_TELLING = re.compile(
    ANY_STEM.pattern + rb"|k(?<=hook)|~(?<=q~)|-begin(?<=-----begin)|@|\$|%|b(?:earer |asic )"
)


def is_dull(data: bytes, lowered: bytes, mask: bytes) -> bool:
    """Say whether a value has nothing in it that a secret could be told by, except perhaps its key's name.

    Args:
        data: the value.
        lowered: the same in lower case.
        mask: `formats.mask_of` of it.
    """
    return (
        # Of much text it would take longer than the searches that it spares.
        len(data) <= FEW_BYTES
        and _TELLING.search(lowered) is None
        and not has_format_run(data, mask)
        and not is_old_pickle(data)
    )
