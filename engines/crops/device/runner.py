"""A runner that cuts out crops and decodes keypoints on the device where the network runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.crops.device.crop import crops
from engines.crops.device.frames import DeviceFrames
from engines.crops.device.keypoints import decode_keypoints
from engines.crops.runners import CropOutput, TensorRuntime
from engines.inputs import PixelInput
from engines.ops.flip import MIRRORED
from engines.ops.keypoint_decoding import POSITIONS, SCORES, KeypointDecoder
from engines.poses import Frame, Region


@dataclass(eq=False)
class DeviceCropRunner:
    """See `CropRunner`. frames: the frames on the device.

    Each calling thread has its own stream, so that one batch is prepared while another computes.
    """

    runtime: TensorRuntime
    pixels: PixelInput
    frames: DeviceFrames
    _: KW_ONLY
    flip: bool = False
    decoder: KeypointDecoder | None = None

    def __post_init__(self) -> None:
        self._input = self.runtime.spec.inputs[0].name
        self._local = threading.local()

    def __call__(self, frames: Sequence[Frame], regions: Sequence[Region]) -> CropOutput:
        started = time.perf_counter()
        with torch.inference_mode(), self._stream():
            batch = crops(frames, regions, self.pixels, self.frames)
            preparing = time.perf_counter() - started
            outputs = self.runtime.run_tensors({self._input: batch})
            if self.flip:
                mirrored = self.runtime.run_tensors({self._input: batch.flip(2)})
                outputs |= {name + MIRRORED: output for name, output in mirrored.items()}
            if self.decoder is not None:
                positions, scores = decode_keypoints(self.decoder, outputs)
                outputs = {POSITIONS: positions, SCORES: scores}
            return CropOutput(_to_host(outputs), preparing)

    def _stream(self) -> AbstractContextManager[Any]:
        device = self.runtime.device
        if device.type != "cuda":
            return nullcontext()
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch does not say
        return torch.cuda.stream(self._local.stream)


def _to_host(outputs: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Copy the outputs to the host. From a GPU, all copies are queued before waiting for them."""
    if not any(output.is_cuda for output in outputs.values()):
        return {name: output.numpy() for name, output in outputs.items()}
    copies = {name: torch.empty_like(output, device="cpu", pin_memory=True) for name, output in outputs.items()}
    for name, output in outputs.items():
        copies[name].copy_(output, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # waits without spinning
    arrived.record()
    arrived.synchronize()
    return {name: copy.numpy() for name, copy in copies.items()}
