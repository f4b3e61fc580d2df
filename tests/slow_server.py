"""`posewire serve` with networks of fixed service time: python -m tests.slow_server serve ...

Each is asked once what it makes of noise, and from then on gives that answer for every item, a batch in
POSEWIRE_SERVICE_MS whatever its size, up to POSEWIRE_SERVICE_BATCH items: as an accelerator would, and taking no
processor time. All else is the server.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from engines.inputs import BATCH_SIZES, Arrays
from engines.runtimes import multi_device, open_runtime
from engines.runtimes.base import Runtime
from service.cli.main import main

_MOST = int(os.environ.get("POSEWIRE_SERVICE_BATCH", BATCH_SIZES[-1]))
_SECONDS = float(os.environ.get("POSEWIRE_SERVICE_MS", "0")) / 1e3


class FixedTime:
    """A runtime in front of another, from which it has its answer."""

    def __init__(self, runtime: Runtime) -> None:
        self.spec = replace(runtime.spec, batch_sizes=tuple(n for n in BATCH_SIZES if n <= _MOST), concurrency=1)
        self._runtime = runtime
        rng = np.random.default_rng(7)
        noise = {s.name: rng.integers(0, 256, (1, *s.shape)).astype(s.dtype) for s in runtime.spec.inputs}
        self._answer = {name: np.array(output) for name, output in runtime.run(noise).items()}

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        items = len(next(iter(feeds.values())))
        time.sleep(_SECONDS)
        return {name: np.repeat(output, items, axis=0) for name, output in self._answer.items()}

    def release(self, *, unused: bool = False) -> None:
        """See `Runtime.release`."""
        self._runtime.release(unused=unused)

    def close(self) -> None:
        """See `Runtime.close`."""
        self._runtime.close()


def _open(*arguments: Any, **options: Any) -> Runtime:
    return FixedTime(open_runtime(*arguments, **options))


if __name__ == "__main__":
    with patch.object(multi_device, "open_runtime", _open):
        main()
