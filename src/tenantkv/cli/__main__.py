"""``python -m tenantkv.cli`` is the same as ``tenantkv``."""

import sys

from tenantkv.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
