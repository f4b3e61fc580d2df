"""One runtime over several devices, each with the same graph: one queue feeds them all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from engines.runtimes.base import Arrays, Runtime, RuntimeClosedError, RuntimeSpec

_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Device:
    """active: calls under way. failed_at: when its last call failed, None where it did not."""

    runtime: Runtime
    active: int = 0
    failed_at: float | None = None

    @property
    def load(self) -> float:
        return self.active / self.runtime.spec.concurrency


class SpreadRuntime:
    """Each call goes to the device with the most room. Takes the runtimes over and closes them.

    A device whose last call failed is passed over, but for one try in `retry_seconds`: its calls return so soon that
    it would have the most room always, and draw all the work to where it fails.
    Raises ValueError for no runtimes, and for ones that are not of the same graph.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        *,
        retry_seconds: float = _RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not runtimes:
            raise ValueError("there is no device to spread calls over")
        first = runtimes[0].spec
        for runtime in runtimes:
            spec = runtime.spec
            if (spec.inputs, spec.outputs, spec.batch_sizes) != (first.inputs, first.outputs, first.batch_sizes):
                raise ValueError(f"{spec.device} runs another graph than {first.device}: {spec} is not {first}")
        self._devices = [_Device(runtime) for runtime in runtimes]
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._spec = replace(
            first,
            concurrency=sum(runtime.spec.concurrency for runtime in runtimes),
            device=" + ".join(runtime.spec.device for runtime in runtimes),
        )

    @property
    def spec(self) -> RuntimeSpec:
        """See `Runtime.spec`. concurrency: of all devices together."""
        return self._spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        self._spec.check(feeds)
        with self.taken() as number:
            return self._devices[number].runtime.run(feeds)

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """One for each device."""
        return tuple(device.runtime for device in self._devices)

    @contextmanager
    def taken(self) -> Iterator[int]:
        """Around one call of the runtime with this number, chosen for it. An exception counts as its failure."""
        with self._lock:
            number = self._choose()
            device = self._devices[number]
            device.active += 1
        failed = True
        try:
            yield number
            failed = False
        except RuntimeClosedError:
            failed = False
            raise
        finally:
            with self._lock:
                device.active -= 1
                device.failed_at = self._clock() if failed else None

    def release(self) -> None:
        """See `Runtime.release`."""
        with ExitStack() as releasing:  # all of them, even where one fails to
            for device in self._devices:
                releasing.callback(device.runtime.release)

    def close(self) -> None:
        """See `Runtime.close`."""
        with ExitStack() as closing:  # all of them, even where one fails to
            for device in self._devices:
                closing.callback(device.runtime.close)

    def _choose(self) -> int:
        now = self._clock()
        numbers = range(len(self._devices))
        for number in numbers:
            failed_at = self._devices[number].failed_at
            if failed_at is not None and now - failed_at >= self._retry_seconds:
                self._devices[number].failed_at = now  # this call is its try
                return number
        well = [number for number in numbers if self._devices[number].failed_at is None]
        return min(well or numbers, key=lambda number: self._devices[number].load)
