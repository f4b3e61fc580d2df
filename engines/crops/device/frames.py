"""Frames on a device. Each frame is copied there once, however many crops are cut out of it."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.poses import Frame


@dataclass(frozen=True, slots=True)
class _Copy:
    """A frame on the device. ready: signalled when the copy has finished."""

    pixels: Tensor
    ready: torch.cuda.Event


class DeviceFrames:
    """Copies of frames on one device. A copy lives as long as its frame. Thread-safe.

    On a CPU nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies: dict[int, _Copy] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._copies)

    def on_device(self, frame: Frame) -> Tensor:
        """The frame's (height, width, 3) uint8 pixels on the device, for work of the current stream."""
        if self._device.type != "cuda":
            return _tensor(frame).to(self._device)
        key = id(frame)
        with self._lock:
            copy = self._copies.get(key)
            if copy is None:
                copy = self._copies[key] = self._upload(frame)
                weakref.finalize(frame, self._copies.pop, key).atexit = False
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(copy.ready)
        copy.pixels.record_stream(stream)  # keeps the memory until this stream has read it
        return copy.pixels

    def _upload(self, frame: Frame) -> _Copy:
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch does not say
        # Copies from pinned memory are asynchronous; torch caches pinned memory for the next frame.
        pixels = _tensor(frame).pin_memory().to(self._device, non_blocking=True)
        ready.record(torch.cuda.current_stream(self._device))
        return _Copy(pixels, ready)


def _tensor(frame: Frame) -> Tensor:
    """The frame as a tensor. Copies only frames that are not contiguous or not writeable, which torch requires."""
    return torch.from_numpy(np.require(frame, requirements=["C", "W"]))
