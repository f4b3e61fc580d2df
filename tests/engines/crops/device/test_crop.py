"""Crops on the device equal those of `engines.ops.affine.crop`, for its resize and its warp."""

from __future__ import annotations

import numpy as np
import pytest

from engines.inputs import PixelInput
from engines.ops.affine import align, crop, resizable
from engines.poses import Frame, Region
from tests.pictures import photo

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch

from engines.crops.device.crop import crops
from engines.crops.device.frames import DeviceFrames

CPU = torch.device("cpu")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("cuda", marks=NEEDS_GPU, id="cuda")]
INPUTS = [PixelInput(96, 72, pad=pad) for pad in (0, 114, "edge")]


def cropped(frame: Frame, region: Region, pixels: PixelInput) -> Frame:
    out = np.empty((pixels.height, pixels.width, 3), np.uint8)
    crop(frame, region, pixels, out)
    return out


def regions(frame: Frame, *, rotated: bool, seed: int) -> list[Region]:
    """Regions of all sizes inside the frame, across its edges and outside."""
    height, width = frame.shape[:2]
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(3), np.log(2 * width), 100)).tolist()
    places = rng.uniform((-0.3 * width, -0.3 * height), (1.3 * width, 1.3 * height), (100, 2)).tolist()
    turns = (rng.uniform(-4, 4, 100) * rotated).tolist()
    return [Region(x, y, size, size * 4 / 3, turn) for (x, y), size, turn in zip(places, sizes, turns, strict=True)]


@pytest.mark.parametrize("pixels", INPUTS, ids=lambda pixels: f"pad {pixels.pad}")
@pytest.mark.parametrize("kind", ["aligned", "between pixels", "rotated"])
@pytest.mark.parametrize("device", DEVICES)
def test_crops_equal_those_of_the_cpu(device: str, kind: str, pixels: PixelInput) -> None:
    frame = np.asarray(photo(160, 120))
    boxes = regions(frame, rotated=kind == "rotated", seed=0)
    if kind == "aligned":
        boxes = [align(region, frame.shape[1], frame.shape[0], pixels) for region in boxes]
    batch = crops([frame] * len(boxes), boxes, pixels, DeviceFrames(torch.device(device))).cpu().numpy()
    assert batch.dtype == np.uint8
    for there, region in zip(batch, boxes, strict=True):
        to_the_last_bit = resizable(region, frame.shape[1], frame.shape[0], pixels)
        apart = np.abs(there.astype(int) - cropped(frame, region, pixels))
        assert apart.max() <= (0 if to_the_last_bit else 2), region


@pytest.mark.parametrize("device", DEVICES)
def test_frames_of_several_sizes_share_a_batch(device: str) -> None:
    frame = np.asarray(photo(160, 120))
    frames = [frame, frame[:50], frame[:, 100:]]
    boxes = [Region(40, 25, 60, 80), Region(100, 30, 90, 120), Region(30, 70, 45, 60)]
    pixels = INPUTS[0]
    store = DeviceFrames(torch.device(device))
    batch = crops([frames[n] for n in (0, 1, 2, 0)], [*boxes, boxes[1]], pixels, store).cpu().numpy()
    for there, n, region in zip(batch, (0, 1, 2, 0), [*boxes, boxes[1]], strict=True):
        assert np.abs(there.astype(int) - cropped(frames[n], region, pixels)).max() <= 2


@NEEDS_GPU
def test_a_frame_is_copied_to_the_gpu_once_and_kept_as_long_as_it_is_referenced() -> None:
    store = DeviceFrames(torch.device("cuda"))
    frame = np.asarray(photo(160, 120))
    first = store.on_device(frame)
    assert store.on_device(frame) is first
    assert len(store) == 1
    del frame
    assert len(store) == 0


def test_read_only_and_non_contiguous_frames_are_accepted() -> None:
    frame = np.asarray(photo(160, 120))
    store = DeviceFrames(CPU)
    assert not frame.flags.writeable
    np.testing.assert_array_equal(store.on_device(frame).numpy(), frame)
    mirrored = frame[:, ::-1]
    np.testing.assert_array_equal(store.on_device(mirrored).numpy(), mirrored)
