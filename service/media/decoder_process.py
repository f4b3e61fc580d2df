"""A process that decodes pictures, as the server sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.media.decoded import DecodedImage
from service.media.errors import ImageError, ImageTooLargeError, NotAnImageError, UndecodableImageError
from service.media.limits import ImageLimits
from service.media.wire import fill, receive_document, send_document

_ERRORS = {kind.__name__: kind for kind in (ImageTooLargeError, NotAnImageError, UndecodableImageError)}
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
_GO, _NO = b"+", b"-"

# One pool of memory, which goes back to the system when a picture is done; no threads of numpy's.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "OPENBLAS_NUM_THREADS": "1"}

Reserve = Callable[[int], None]


class DecoderEndedError(RuntimeError):
    """A decoder process has ended, or gave no answer and was ended, for no fault of the picture."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one picture may take. memory: bytes of the process. cpu_seconds, wall_seconds: for each picture."""

    memory: int = 512_000_000
    cpu_seconds: int = 5
    wall_seconds: float = 60.0


class DecoderProcess:
    """A child process that decodes one picture at a time. Blocks; `kill` may be called from other threads."""

    def __init__(self, bounds: Bounds) -> None:
        """Start the process; it may still import what it needs when this returns. Raises OSError where none can be."""
        self._bounds = bounds
        self._connection, theirs = socket.socketpair()
        try:
            with theirs:
                number = theirs.fileno()
                arguments = map(str, (number, bounds.memory, bounds.cpu_seconds))
                self._process = subprocess.Popen(  # noqa: S603 - a module of ours
                    (sys.executable, "-m", "service.media.decoder_child", *arguments),
                    stdin=subprocess.PIPE,  # nothing is written: it closes with this process
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libtiff writes a line for each fault that it finds
                    pass_fds=(number,),
                    env=_environment(os.environ),
                )
        except BaseException:
            self._connection.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can decode."""
        return self._connection.fileno() >= 0 and self._process.poll() is None

    def decode(
        self,
        kind: str,
        data: bytes | memoryview,
        limits: ImageLimits,
        needs: tuple[int, int] | None,
        reserve: Reserve | None = None,
    ) -> DecodedImage:
        """Decode a picture. kind: of the file, one of kinds.IMAGES.

        reserve: called with the bytes of the pixels before these are decoded; what it raises is raised.
        Raises ImageError, also where the picture takes more than the bounds, and DecoderEndedError.
        """
        stop = time.monotonic() + self._bounds.wall_seconds
        request = {"kind": kind, "bytes": len(data), "needs": needs}
        try:
            self._connection.settimeout(self._bounds.wall_seconds)
            send_document(self._connection, **request, max_pixels=limits.max_pixels, max_side=limits.max_side)
            self._connection.sendall(data)
            size = int(self._receive(stop)["bytes"])
            try:
                if not 0 < size <= 3 * limits.max_pixels:
                    raise ValueError(f"{size} bytes of pixels")
                if reserve is not None:
                    reserve(size)
            except BaseException:
                self._connection.sendall(_NO)
                raise
            self._connection.sendall(_GO)
            return self._receive_image(stop, size)
        except (EOFError, OSError) as error:
            raise self._ended(kind, late=isinstance(error, TimeoutError)) from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ImageError):
                raise
            self.kill()  # it says what makes no sense, so that nothing of it is to be trusted
            raise self._ended(kind, late=False) from error

    def kill(self) -> None:
        """End the process at once; a `decode` under way raises DecoderEndedError."""
        self._process.kill()

    def close(self) -> None:
        """End the process and free what it had."""
        self._connection.close()
        self._process.kill()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()

    def _receive(self, stop: float) -> Mapping[str, Any]:
        self._connection.settimeout(max(0.001, stop - time.monotonic()))
        document = receive_document(self._connection)
        if "error" in document:
            raise _ERRORS[document["error"]](str(document["message"]))
        return document

    def _receive_image(self, stop: float, size: int) -> DecodedImage:
        about = self._receive(stop)
        rows, columns, scale, width, height = (
            int(about[name]) for name in ("rows", "columns", "scale", "width", "height")
        )
        if min(rows, columns, width, height) < 1 or 3 * rows * columns != size or scale not in (1, 2, 4, 8):
            raise ValueError(f"{rows} x {columns} pixels in {size} bytes at 1/{scale}")
        pixels = np.empty((rows, columns, 3), np.uint8)
        fill(self._connection, pixels.data.cast("B"))
        return DecodedImage(pixels, width, height, scale)

    def _ended(self, kind: str, *, late: bool) -> Exception:
        """What it means that the process has ended, or is ended now."""
        self.close()
        number = -self._process.returncode
        if number == signal.SIGXCPU:
            return UndecodableImageError(
                f"decoding this {kind} takes more than {self._bounds.cpu_seconds} s of processor time; export it again "
                "with usual settings, or as a JPEG"
            )
        if number in _CRASHES:
            return UndecodableImageError(f"corrupt {kind}: the decoder crashed on it; export it again")
        why = f"gave no answer in {self._bounds.wall_seconds:g} s" if late else f"ended ({_name(number)})"
        return DecoderEndedError(f"the process that decoded this {kind} {why}; try again")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {-number}"


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What the process is to know: no keys and passwords, which settings may be."""
    return {name: value for name, value in inherited.items() if not name.startswith("POSEWIRE_")} | _ENVIRONMENT
