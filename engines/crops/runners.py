"""Runs networks on regions of frames. Crops are cut out on the CPU, or on the device where the network runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engines.inputs import PixelInput
from engines.ops.affine import crop
from engines.ops.flip import MIRRORED
from engines.ops.keypoint_decoding import KeypointDecoder
from engines.poses import Frame, Region
from engines.runtimes.base import Runtime
from engines.runtimes.multi_device import MultiDeviceRuntime

if TYPE_CHECKING:
    import torch

    from engines.crops.device.frames import DeviceFrames

Where = Literal["auto", "cpu", "device"]


class CropOutput(NamedTuple):
    """The outputs of a network for a batch. preparing: seconds until the crops were ready, or queued on the device."""

    outputs: dict[str, NDArray[Any]]
    preparing: float


class CropRunner(Protocol):
    """Runs a network on 1..max_batch regions. Thread-safe."""

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> CropOutput:
        """Run `regions[n]` of `frames[n]`. With `flip`, the outputs include those of the mirrored crops."""


@runtime_checkable
class TensorRuntime(Runtime, Protocol):
    """A runtime that also runs on tensors of its device."""

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""

    def run_tensors(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Like `run`, in order with the work on torch's current stream."""


@dataclass(eq=False)
class CpuCropRunner:
    """Cuts out crops on the CPU. flip: also run the network on the mirrored crops."""

    runtime: Runtime
    pixels: PixelInput
    _: KW_ONLY
    flip: bool = False

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> CropOutput:
        started = time.perf_counter()
        # The only copy of the pixels between the decoded frame and the network: each crop is written into the batch.
        batch = np.empty((len(regions), self.pixels.height, self.pixels.width, 3), np.uint8)
        for item, frame, region in zip(batch, frames, regions, strict=True):
            crop(frame, region, self.pixels, item)
        preparing = time.perf_counter() - started
        name = self.runtime.spec.inputs[0].name
        outputs = self.runtime.run({name: batch})
        if self.flip:
            mirrored = self.runtime.run({name: batch[:, :, ::-1]})
            outputs |= {key + MIRRORED: output for key, output in mirrored.items()}
        return CropOutput(outputs, preparing)


@dataclass(eq=False)
class MultiDeviceCropRunner:
    """One runner for each device of a MultiDeviceRuntime. A batch is cut out where it is computed."""

    runtime: MultiDeviceRuntime
    runners: Sequence[CropRunner]

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> CropOutput:
        with self.runtime.acquire() as number:
            return self.runners[number](frames, regions)


class CropRunners:
    """Opens crop runners. Those of the same device share the frames that have been copied there.

    where: where to cut out crops: "cpu"; "device", the device of the network, which torch must be able to use; "auto",
    the device if it is a GPU.
    """

    def __init__(self, where: Where = "auto") -> None:
        if where not in get_args(Where):
            raise ValueError(f"crops are cut out on one of {', '.join(get_args(Where))}, not on {where!r}")
        self._where = where
        self._frames: dict[torch.device, DeviceFrames] = {}

    def open(
        self, runtime: Runtime, pixels: PixelInput, *, flip: bool = False, decoder: KeypointDecoder | None = None
    ) -> CropRunner:
        """Open a runner for the network in `runtime`, which was opened with `pixels`.

        flip: also run mirrored crops. decoder: if given, a device runner decodes the outputs on the device and returns
        only the result, see `engines.ops.keypoint_decoding.decoded_on_device`.
        Raises ValueError if the device cannot cut out crops but `where` requires it.
        """
        if isinstance(runtime, MultiDeviceRuntime):
            each = [self.open(one, pixels, flip=flip, decoder=decoder) for one in runtime.runtimes]
            return MultiDeviceCropRunner(runtime, each)
        if isinstance(runtime, TensorRuntime):
            if self._where == "device" or (self._where == "auto" and runtime.device.type == "cuda"):
                from engines.crops.device.frames import DeviceFrames  # needs torch, which the runtime has imported
                from engines.crops.device.runner import DeviceCropRunner

                frames = self._frames.setdefault(runtime.device, DeviceFrames(runtime.device))
                return DeviceCropRunner(runtime, pixels, frames, flip=flip, decoder=decoder)
        elif self._where == "device":
            raise ValueError(
                "crops can be cut out on the device of backends onnxruntime and tensorrt, beside a torch that can "
                "use it; say crops auto"
            )
        return CpuCropRunner(runtime, pixels, flip=flip)
