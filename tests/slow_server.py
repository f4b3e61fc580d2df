"""`posewire serve` whose networks take a fixed time for a batch: python -m tests.slow_server serve ...

POSEWIRE_SERVICE_MS says how long; the rest of the server is what everybody runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from engines.runtimes.base import Arrays
from service import server
from service.cli import main
from service.serving import Serving, open_serving

_SECONDS = float(os.environ.get("POSEWIRE_SERVICE_MS", "0")) / 1e3


def _open_slowly(*arguments: Any, **options: Any) -> Serving:
    serving = open_serving(*arguments, **options)
    for runtime in serving.runtimes.values():
        runtime.run = _at_least(runtime.run)  # type: ignore[method-assign, assignment]
    return serving


def _at_least(run: Callable[[Arrays], Any]) -> Callable[[Arrays], Any]:
    def slowly(feeds: Arrays) -> Any:
        due = time.perf_counter() + _SECONDS
        outputs = run(feeds)
        time.sleep(max(0.0, due - time.perf_counter()))
        return outputs

    return slowly


if __name__ == "__main__":
    with patch.object(server, "open_serving", _open_slowly):
        main()
