"""The pool of decoder processes. Processes start when images need them and are reused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

from service.media.decoder_process import Bounds, DecoderEndedError, DecoderProcess, Reserve
from service.media.image_files import ImageLimits
from service.media.pixels import DecodedImage

log = logging.getLogger(__name__)


class DecoderPool:
    """At most `size` decoder processes. Thread-safe; a context manager."""

    def __init__(self, size: int, bounds: Bounds) -> None:
        self.size = size
        self.bounds = bounds
        self._limiter = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        with self._lock:
            return [process.pid for process in (*self._idle, *self._busy)]

    def decode(
        self,
        kind: str,
        data: bytes | memoryview,
        limits: ImageLimits,
        needs: tuple[int, int] | None,
        *,
        reserve: Reserve | None = None,
        given_to: Callable[[DecoderProcess | None], None] = lambda _: None,
    ) -> DecodedImage:
        """Like `DecoderProcess.decode`. Waits while all processes are busy.

        given_to: called with the process before it gets the image, so that the caller can kill it, and with None before
        the process can get another image.
        Also raises DecoderEndedError if no process can be started or the pool is closed.
        """
        with self._limiter:
            process = self._take()
            try:
                given_to(process)
                return process.decode(kind, data, limits, needs, reserve)
            except DecoderEndedError as error:
                log.warning("%s", error)
                raise
            finally:
                given_to(None)
                self._put(process)

    def trim(self) -> None:
        """End the idle processes. The next images start new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()

    def close(self) -> None:
        """End all processes. Current and later calls of `decode` raise DecoderEndedError."""
        with self._lock:
            self._closed = True
            for process in self._busy:
                process.kill()
        self.trim()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> DecoderProcess:
        with self._lock:
            if self._closed:
                raise DecoderEndedError("the decoders are closed")
            while self._idle:
                process = self._idle.pop()
                if process.alive:
                    self._busy.add(process)
                    return process
                process.close()
        try:
            process = DecoderProcess(self.bounds)
        except OSError as error:
            raise DecoderEndedError(f"no decoder process can be started: {error.strerror}") from error
        with self._lock:
            self._busy.add(process)
        return process

    def _put(self, process: DecoderProcess) -> None:
        with self._lock:
            self._busy.discard(process)
            if process.alive and not self._closed:
                self._idle.append(process)
                return
        process.close()
