"""The decoder processes of a program: started as pictures need them, and used again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from service.media.decoded import DecodedImage
from service.media.decoder_process import Bounds, DecoderEndedError, DecoderProcess, Reserve
from service.media.limits import ImageLimits

log = logging.getLogger(__name__)


class DecoderPool:
    """At most `size` processes. May be used from any thread; a context manager."""

    def __init__(self, size: int, bounds: Bounds) -> None:
        self.size = size
        self.bounds = bounds
        self._room = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes there are."""
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
        """See `DecoderProcess.decode`; waits where all processes are busy.

        given_to: called with the process before it gets the picture, for callers that may want to kill it, and with
        None before another picture may get it.
        Also raises DecoderEndedError where no process can be started, or the pool is closed.
        """
        with self._room:
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
        """End the processes that decode nothing; the next pictures start new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()

    def close(self) -> None:
        """End all processes; pictures under way fail with DecoderEndedError, and later ones."""
        with self._lock:
            self._closed = True
            for process in self._busy:
                process.kill()
        self.trim()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
