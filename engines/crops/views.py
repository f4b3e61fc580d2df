"""How networks are shown regions of frames: crops cut out on the CPU, or on the device where the network runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engines.ops.affine import crop
from engines.ops.flip import MIRRORED
from engines.ops.keypoint_decoding import KeypointDecoder
from engines.poses import Frame, Region
from engines.runtimes.base import PixelInput, Runtime
from engines.runtimes.multi_device import SpreadRuntime

if TYPE_CHECKING:
    import torch

    from engines.crops.device.frames import DeviceFrames

Where = Literal["auto", "cpu", "device"]


class ViewOutput(NamedTuple):
    """What a network said of a batch. preparing: seconds until the crops were ready, or under way on the device."""

    outputs: dict[str, NDArray[Any]]
    preparing: float


class View(Protocol):
    """Shows 1..max_batch regions, each of the frame beside it, to a network. Any thread may call it."""

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> ViewOutput:
        """The network's outputs for the crops, and for their mirror images where the view was opened so."""


@runtime_checkable
class TensorRuntime(Runtime, Protocol):
    """A runtime that takes and gives what is on its device."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""

    def run_tensors(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """As `run`, in the order of the work of torch's current stream."""


class CpuView:
    """Cuts the crops out on the CPU. flip: the network is to see their mirror images as well."""

    def __init__(self, runtime: Runtime, pixels: PixelInput, *, flip: bool = False) -> None:
        self._runtime = runtime
        self._pixels = pixels
        self._flip = flip
        self._input = runtime.spec.inputs[0].name

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> ViewOutput:
        """See `View`."""
        started = time.perf_counter()
        # The one copy of the pixels between the decoded frame and the network: each crop is written into its batch.
        batch = np.empty((len(regions), self._pixels.height, self._pixels.width, 3), np.uint8)
        for slot, frame, region in zip(batch, frames, regions, strict=True):
            crop(frame, region, self._pixels, slot)
        preparing = time.perf_counter() - started
        outputs = self._runtime.run({self._input: batch})
        if self._flip:
            mirrored = self._runtime.run({self._input: batch[:, :, ::-1]})
            outputs |= {name + MIRRORED: output for name, output in mirrored.items()}
        return ViewOutput(outputs, preparing)


class SpreadView:
    """One view for each device of a runtime over several; a batch is cut out where it is computed."""

    def __init__(self, runtime: SpreadRuntime, views: Sequence[View]) -> None:
        self._runtime = runtime
        self._views = tuple(views)

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> ViewOutput:
        """See `View`."""
        with self._runtime.taken() as number:
            return self._views[number](frames, regions)


class Views:
    """Opens views. Those of one device share the frames that are there.

    where: "cpu"; "device": the network's, which torch has to reach; "auto": the device where that is a GPU.
    """

    def __init__(self, where: Where = "auto") -> None:
        if where not in get_args(Where):
            raise ValueError(f"crops are cut out on one of {', '.join(get_args(Where))}, not on {where!r}")
        self._where = where
        self._frames: dict[torch.device, DeviceFrames] = {}

    def open(
        self, runtime: Runtime, pixels: PixelInput, *, flip: bool = False, reading: KeypointDecoder | None = None
    ) -> View:
        """A view of the network behind `runtime`, which was opened with `pixels`.

        flip: the outputs for the mirror images are needed. reading: all that is wanted of the outputs; a device sends
        no more than that back, see `engines.ops.keypoint_decoding.decoded_on_device`.
        Raises ValueError where crops are to be cut out on a device that takes none.
        """
        if isinstance(runtime, SpreadRuntime):
            each = [self.open(one, pixels, flip=flip, reading=reading) for one in runtime.runtimes]
            return SpreadView(runtime, each)
        if isinstance(runtime, TensorRuntime):
            if self._where == "device" or (self._where == "auto" and runtime.device.type == "cuda"):
                from engines.crops.device.frames import DeviceFrames  # torch, which the runtime has imported
                from engines.crops.device.view import DeviceView

                frames = self._frames.setdefault(runtime.device, DeviceFrames(runtime.device))
                return DeviceView(runtime, pixels, frames, flip=flip, reading=reading)
        elif self._where == "device":
            raise ValueError(
                "crops can be cut out where torch runs, or tensorrt beside a torch with CUDA; say crops auto"
            )
        return CpuView(runtime, pixels, flip=flip)
