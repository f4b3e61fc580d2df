"""Memory that a runtime has freed and the C library still keeps."""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """Give freed pages back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
