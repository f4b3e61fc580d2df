"""Denying a process a system call, as seccomp filters of containers do, or further threads."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = {"setpriority": {"x86_64": 141, "aarch64": 140}, "sched_setaffinity": {"x86_64": 203, "aarch64": 122}}
"""Numbers of system calls, by name and machine."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def deny(call: str) -> None:
    """Make `call` fail with EPERM in this thread and its future threads. Linux only; cannot be undone."""
    number = NUMBERS[call][platform.machine()]
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, 0),
            (_JUMP_IF_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, _ERRNO | errno.EPERM),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, header, 0, 0)
    for number, *rest in arguments:
        if libc.prctl(number, *rest):
            raise OSError(ctypes.get_errno(), "seccomp")


@contextmanager
def no_threads() -> Iterator[None]:
    """Make the start of threads fail, with a stack that is larger than the address space."""
    before = threading.stack_size(1 << 47)
    try:
        yield
    finally:
        threading.stack_size(before)
