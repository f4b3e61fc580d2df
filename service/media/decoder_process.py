"""The server's side of a decoder process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.media.decoder_wire import fill, receive_document, send_document
from service.media.image_files import (
    ImageError,
    ImageLimits,
    ImageTooLargeError,
    NotAnImageError,
    UndecodableImageError,
)
from service.media.pixels import DecodedImage

_ERRORS = {kind.__name__: kind for kind in (ImageTooLargeError, NotAnImageError, UndecodableImageError)}
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
GO, NO = b"+", b"-"
"""Whether the pixels may be sent."""

# One malloc arena, which returns memory to the system after each image, and no threads of numpy.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "OPENBLAS_NUM_THREADS": "1"}

Reserve = Callable[[int], None]


class DecoderEndedError(RuntimeError):
    """A decoder process ended, or gave no answer and was killed, and the image is not to blame."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Resource limits of decoding. memory: bytes of the process. cpu_seconds, wall_seconds: per image."""

    memory: int = 512_000_000
    cpu_seconds: int = 5
    wall_seconds: float = 60.0


class DecoderProcess:
    """A child process that decodes one image at a time. Methods block; other threads may call `kill`."""

    def __init__(self, bounds: Bounds, module: str = "service.media.decoder_child") -> None:
        """Start the process, which may still be importing modules on return. Raises OSError if it cannot start."""
        self._bounds = bounds
        self._connection, theirs = socket.socketpair()
        try:
            with theirs:
                number = theirs.fileno()
                arguments = map(str, (number, bounds.memory, bounds.cpu_seconds))
                self._process = subprocess.Popen(  # noqa: S603 - runs a module of this package
                    (sys.executable, "-m", module, *arguments),
                    stdin=subprocess.PIPE,  # never written to: it closes when this process ends
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libtiff writes a line for each error
                    pass_fds=(number,),
                    # Without settings, because these may hold keys and passwords.
                    env={k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | _ENVIRONMENT,
                )
        except BaseException:
            self._connection.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True if the process can decode."""
        return self._connection.fileno() >= 0 and self._process.poll() is None

    def decode(
        self,
        kind: str,
        data: bytes | memoryview,
        limits: ImageLimits,
        needs: tuple[int, int] | None,
        reserve: Reserve | None = None,
    ) -> DecodedImage:
        """Decode an image. kind: one of image_files.IMAGES.

        reserve: called with the size of the pixels in bytes before they are decoded. Its exceptions are passed on.
        Raises ImageError, also if decoding exceeds the bounds, and DecoderEndedError.
        """
        stop = time.monotonic() + self._bounds.wall_seconds
        request = {"kind": kind, "bytes": len(data), "needs": needs}
        with self._conversation(kind):
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
                self._connection.sendall(NO)
                raise
            self._connection.sendall(GO)
            return self._receive_image(stop, size)

    @contextmanager
    def _conversation(self, what: str) -> Iterator[None]:
        """Turn the end of the process, its silence and invalid replies into DecoderEndedError. what: is decoded."""
        try:
            yield
        except (EOFError, OSError) as error:
            raise self._ended(what, late=isinstance(error, TimeoutError)) from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ImageError):
                raise
            self.kill()  # its reply is invalid, so nothing that it sends can be trusted
            raise self._ended(what, late=False) from error

    def kill(self) -> None:
        """End the process at once. A concurrent `decode` raises DecoderEndedError."""
        self._process.kill()

    def close(self) -> None:
        """End the process and free its resources."""
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
        """End the process, if it has not ended, and return the exception that its end means for the caller."""
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
