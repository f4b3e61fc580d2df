"""The devices that a backend can use on this machine, and one runtime over several of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engines.inputs import Arrays
from engines.plans.gpu import find_gpu
from engines.runtimes import open_runtime
from engines.runtimes.base import Runtime, RuntimeClosedError, RuntimeSpec

_RETRY_SECONDS = 1.0


def visible_devices(backend: str) -> tuple[str, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves and the backend can use; ("cpu",) if it runs on the CPU here.

    TensorRT gets only the GPUs of the same kind as the first, because a plan is for one kind of GPU.
    """
    if backend == "openvino":
        return ("cpu",)
    if backend == "onnxruntime":
        try:
            from engines.runtimes.onnxruntime.runtime import visible_gpus
        except ModuleNotFoundError:  # not installed; `open_runtime` says what is missing
            return ("cpu",)
        return visible_gpus() or ("cpu",)
    gpus = list(takewhile(lambda gpu: gpu is not None, map(find_gpu, count())))
    return tuple(f"cuda:{n}" for n, gpu in enumerate(gpus) if gpu == gpus[0])


def open_on(devices: Sequence[str], path: Path, backend: str, **options: Any) -> Runtime:
    """Open the graph at `path` on each of `devices`, which share the calls. options: as for `open_runtime`.

    Raises ValueError if there are no devices or one is named twice.
    """
    if not devices or len(set(devices)) != len(devices):
        raise ValueError(f"devices must be different ones, at least one, not {', '.join(devices) or 'none'}")
    if len(devices) == 1:
        return open_runtime(path, backend, device=devices[0], **options)
    with ThreadPoolExecutor(len(devices), thread_name_prefix="posewire-open") as pool:
        opening = [pool.submit(open_runtime, path, backend, device=device, **options) for device in devices]
    try:
        return MultiDeviceRuntime([each.result() for each in opening])
    except BaseException:
        for each in opening:
            if each.exception() is None:
                each.result().close()
        raise


@dataclass(slots=True)
class _Device:
    """active: calls under way. failed_at: when the last call failed, None if it succeeded."""

    runtime: Runtime
    active: int = 0
    failed_at: float | None = None

    @property
    def load(self) -> float:
        return self.active / self.runtime.spec.concurrency


class MultiDeviceRuntime:
    """The same graph on several devices. Each call goes to the device with the lowest load.

    Takes ownership of the runtimes and closes them. A device whose last call failed gets only one call in
    `retry_seconds`: its calls fail so soon that it would always have the lowest load, and attract all the work.
    Raises ValueError if there are no runtimes or they are not of the same graph.
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
        self._spec.check(feeds)
        with self.acquire() as number:
            return self._devices[number].runtime.run(feeds)

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """One for each device."""
        return tuple(device.runtime for device in self._devices)

    @contextmanager
    def acquire(self) -> Iterator[int]:
        """Choose a device for one call and yield its index in `runtimes`. An exception counts as its failure."""
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

    def release(self, *, unused: bool = False) -> None:
        with ExitStack() as releasing:  # releases every runtime, even if one fails
            for device in self._devices:
                releasing.callback(device.runtime.release, unused=unused)

    def close(self) -> None:
        with ExitStack() as closing:  # closes every runtime, even if one fails
            for device in self._devices:
                closing.callback(device.runtime.close)

    def _choose(self) -> int:
        now = self._clock()
        numbers = range(len(self._devices))
        for number in numbers:
            failed_at = self._devices[number].failed_at
            if failed_at is not None and now - failed_at >= self._retry_seconds:
                self._devices[number].failed_at = now  # this call is the retry
                return number
        healthy = [number for number in numbers if self._devices[number].failed_at is None]
        return min(healthy or numbers, key=lambda number: self._devices[number].load)
