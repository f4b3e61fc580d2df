"""Lifecycle helpers that runtimes share: active calls, the lock for GPU setup, and returning freed memory."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from engines.runtimes.base import RuntimeClosedError

_GPU_SETUP = threading.RLock()


def gpu_setup(on_gpu: bool = True) -> AbstractContextManager[object]:
    """A process-wide lock for opening and closing a network on a GPU and for timing kernels; no lock without a GPU.

    Opening a network captures CUDA graphs, and choosing kernels waits for the whole device. The driver fails both if
    one thread captures while another waits, whatever the capture mode. Batches only wait for their own streams, so they
    continue meanwhile.
    """
    return _GPU_SETUP if on_gpu else nullcontext()


class ActiveCalls:
    """Counts the calls of one runtime that are under way. Thread-safe.

    Wrap each call in `with active_calls`, which raises RuntimeClosedError after `close`.
    """

    def __init__(self) -> None:
        self._active = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeClosedError("this runtime is closed")
            self._active += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    @contextmanager
    def paused(self) -> Iterator[bool]:
        """Block new calls inside the context. Yields True if the runtime is open and no call is under way."""
        with self._changed:
            yield self._active == 0 and not self._closed

    def close(self) -> None:
        """Refuse further calls and wait for those under way. Closing twice is allowed."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._active == 0)


class SharedCores:
    """Counts the calls of all runtimes that compute on the same CPU cores. Thread-safe.

    Wrap each call in `with shared_cores as alone`; `alone` is True if no other call was under way at its start.
    """

    def __init__(self) -> None:
        self._active = 0
        self._lock = threading.Lock()

    def __enter__(self) -> bool:
        with self._lock:
            self._active += 1
            return self._active == 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._active -= 1


def return_freed_memory() -> None:
    """Return the freed pages that the C library still holds to the system, where it supports that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
