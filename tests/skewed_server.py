"""`posewire serve` on a machine whose clock is wrong: python -m tests.skewed_server serve ...

Its wall clock is POSEWIRE_SKEW_S seconds ahead. All else is the server.
"""

from __future__ import annotations

import os
import time

_right = time.time
_SKEW = float(os.environ["POSEWIRE_SKEW_S"])
time.time = lambda: _right() + _SKEW  # before importing modules that use it as a default

from service.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
