"""torch on a GPU or the CPU: the reference implementation, and the way to serve on a GPU without TensorRT.

It runs every file that OpenVINO reads: that reader turns ONNX, IR and TFLite into one set of operators with known
shapes, and `operators` implements each of them in torch. So models need no second file format, nothing is unpickled,
and preprocessing is folded in by the same code as on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.cores import usable_cores
from engines.inputs import Arrays, PixelInput, batch_sizes_up_to
from engines.runtimes.base import RuntimeSpec, batches_independently, cut_into_batch_sizes, join_batches
from engines.runtimes.lifecycle import ActiveCalls, gpu_setup, return_freed_memory
from engines.runtimes.openvino.graphs import describe, gives_an_output_per_item, read_graph
from engines.runtimes.torch.cuda_graphs import CapturedGraphs
from engines.runtimes.torch.program import Constants, Program, lower

_MAX_BATCH = {"cuda": 32, "cpu": 4}
_HALVES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """One graph, compiled to a program for each batch size.

    On a GPU the steps of fixed shapes of each program are a CUDA graph; on the CPU each call uses one core.

    path: .onnx, .xml or .tflite. pixels, outputs: as in `open_runtime`. device: "cpu", "cuda", "cuda:1"; by default a
    GPU if there is one. precision: "fp32", "bf16", "fp16", or "auto": bf16 on a GPU, fp32 on the CPU. threads: the
    number of concurrent calls on the CPU, by default one for each usable core.
    Raises ValueError for a precision or device that does not exist, for outputs that the graph does not have, and for
    operators without a torch function.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "auto",
        max_batch: int | None = None,
        pixels: PixelInput | None = None,
        outputs: Sequence[str] | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._device = _device(device)
        if self._device.type == "cuda":
            _set_up_cuda()
        else:
            # This setting is global to the process. torch's threads spin while they wait for each other: on a machine
            # with other load, a call on two cores was measured to take a hundred times as long as on one.
            torch.set_num_threads(1)
        precision = _precision(precision, self._device)
        core = ov.Core()
        constants = Constants(self._device)

        def model(batch: int) -> ov.Model:
            return read_graph(core, path, pixels, outputs, batch)

        def program(batch: int) -> Program:
            return lower(model(batch), _HALVES[precision], constants)

        free = model(-1)
        inputs, results = tuple(map(describe, free.inputs)), tuple(map(describe, free.outputs))
        self._names = tuple(spec.name for spec in inputs), tuple(spec.name for spec in results)
        self._captured: CapturedGraphs | None = None
        self._programs = {1: program(1)}
        pair = model(2) if max_batch != 1 else None
        if pair is not None and gives_an_output_per_item(pair):
            self._programs[2] = lower(pair, _HALVES[precision], constants)
        on_gpu = self._device.type == "cuda"
        with gpu_setup(on_gpu):
            batches = 2 in self._programs and batches_independently(self._infer, inputs)
        batch_sizes = batch_sizes_up_to((max_batch or _MAX_BATCH[self._device.type]) if batches else 1)
        self._programs = {
            batch_size: self._programs.get(batch_size) or program(batch_size) for batch_size in batch_sizes
        }
        if on_gpu:
            with gpu_setup():
                self._captured = CapturedGraphs(self._programs, inputs, results, self._device)
        self._spec = RuntimeSpec(
            inputs=inputs,
            outputs=results,
            batch_sizes=batch_sizes,
            concurrency=(threads or usable_cores()) if self._captured is None else self._captured.concurrency,
            device=_name(self._device),
            precision=precision,
        )
        self._calls = ActiveCalls()
        if self._captured is None or self._captured.exact:
            with gpu_setup(on_gpu):
                for batch_size in batch_sizes:
                    self._infer({spec.name: np.zeros((batch_size, *spec.shape), spec.dtype) for spec in inputs})

    @property
    def spec(self) -> RuntimeSpec:
        """See `Runtime.spec`."""
        return self._spec

    @property
    def device(self) -> torch.device:
        """The device that tensors for `run_tensors` must be on."""
        return self._device

    @property
    def captured(self) -> bool:
        """True if the steps of fixed shapes run as CUDA graphs."""
        return self._captured is not None

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        count = self._spec.check(feeds)
        with self._calls:
            parts = [
                self._infer({name: array[start:stop] for name, array in feeds.items()})
                for start, stop in self._pieces(count)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_batches([part[name] for part in parts]) for name in parts[0]}

    def run_tensors(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Like `run`, with tensors that stay on the device, for crops and outputs that are processed there.

        The work is queued in order with the work on the current stream.
        """
        with self._calls:
            count = len(next(iter(feeds.values())))
            parts = [
                self._call({name: tensor[start:stop] for name, tensor in feeds.items()}, stop - start)
                for start, stop in self._pieces(count)
            ]
        return {name: _joined([part[n] for part in parts]) for n, name in enumerate(self._names[1])}

    def release(self) -> None:
        """See `Runtime.release`."""
        return_freed_memory()

    def close(self) -> None:
        """See `Runtime.close`."""
        self._calls.close()
        with gpu_setup(self._captured is not None):
            if self._captured is not None:
                self._captured.synchronize()
            self._programs = {}
            self._captured = None

    def _pieces(self, count: int) -> list[tuple[int, int]]:
        """How a batch is split. Graphs of fixed shapes are padded instead, which costs less than another launch."""
        if self._captured is not None and not self._captured.exact:
            return [(0, count)]
        return cut_into_batch_sizes(count, self._spec.batch_sizes)

    def _infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        count = len(next(iter(feeds.values())))
        if self._captured is not None:
            return self._captured.run(feeds, count)
        tensors = {name: _tensor(array).to(self._device) for name, array in feeds.items()}
        results = self._call(tensors, count)
        # Copied, because a graph may return its input or one of its constants.
        return {name: np.array(result.cpu().numpy()) for name, result in zip(self._names[1], results, strict=True)}

    def _call(self, feeds: Mapping[str, Tensor], count: int) -> tuple[Tensor, ...]:
        if self._captured is not None:
            return tuple(self._captured.run_tensors(feeds, count).values())
        with torch.inference_mode():
            return self._programs[count](*(feeds[name] for name in self._names[0]))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """`join_batches` on the device."""
    if len(parts) == 1:
        return parts[0]
    inner = [max(sides) for sides in zip(*(part.shape[1:] for part in parts), strict=True)]
    joined = parts[0].new_zeros((sum(len(part) for part in parts), *inner))
    start = 0
    for part in parts:
        joined[(slice(start, start + len(part)), *(slice(side) for side in part.shape[1:]))] = part
        start += len(part)
    return joined


def _tensor(array: NDArray[Any]) -> Tensor:
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())  # tensors cannot be read-only


def _device(wanted: str | None) -> torch.device:
    try:
        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device {wanted!r} is not one of cpu, cuda, cuda:1 and so on") from error
    if device.type not in _MAX_BATCH:
        raise ValueError(f"device {wanted!r} is not one of cpu, cuda, cuda:1 and so on")
    if device.type == "cpu":
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if found == 0:
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no NVIDIA GPU"
        raise ValueError(f"there is no device {wanted}: {why}; use device cpu or backend openvino")
    if (device.index or 0) >= found:
        raise ValueError(f"there is no device {wanted}: the last one is cuda:{found - 1}")
    return torch.device("cuda", device.index or 0)


def _set_up_cuda() -> None:
    """Disable TF32 for fp32 and let cuDNN choose the fastest kernels, since each program has fixed shapes.

    These settings are global to the process.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    if wanted not in _HALVES:
        raise ValueError(f"precision {wanted!r} is not one of auto, {', '.join(_HALVES)}")
    return wanted


def _name(device: torch.device) -> str:
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else "cpu"
