"""One network at a time is opened on GPUs.

Graphs are captured then, and choosing kernels waits for the whole device: the driver fails both where one thread does
the one while another does the other, whatever the mode of the capture. Batches wait for their own streams alone, and
go on meanwhile.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

_OPENING = threading.RLock()


def alone(on_gpu: bool = True) -> AbstractContextManager[object]:
    """Around opening and closing a network on a GPU, and timing kernels there; without a GPU it holds up nobody."""
    return _OPENING if on_gpu else nullcontext()
