"""`posewire serve` without a system call: python -m tests.denied_server serve ...

POSEWIRE_DENIED names the call.
"""

from __future__ import annotations

import os

from service.cli.main import main
from tests.denied import deny

if __name__ == "__main__":
    deny(os.environ["POSEWIRE_DENIED"])
    main()
