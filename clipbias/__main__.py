"""``python -m clipbias`` is the console script ``clipbias``."""

from __future__ import annotations

import sys

from clipbias.cli import main

if __name__ == "__main__":
    sys.exit(main())
