"""The cost from frames and boxes to keypoints, with preparing and decoding on the CPU or on the device."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from engines.crops.device.crop import crops
from engines.crops.device.frames import DeviceFrames
from engines.crops.runners import CpuCropRunner, CropRunner, CropRunners
from engines.families.heatmap import Heatmap
from engines.ops.affine import align, crop
from engines.poses import Frame, Region
from engines.runtimes import open_runtime
from engines.skeletons import COCO_17
from tests.benchmarks.accelerator.subjects import Subject
from tests.benchmarks.accelerator.throughput import finish
from tests.benchmarks.report import Row
from tests.pictures import photo

_PEOPLE = 4
"""People in each frame."""


def compare(subject: Subject, device: torch.device, precision: str, batch: int, seconds: float) -> list[Row]:
    """Crops per second: cropping alone, and with network and decoding. New frames every time."""
    pixels = subject.pixels
    picture = np.asarray(photo(640, 480))
    rng = np.random.default_rng(0)
    places = rng.uniform((100, 100, 60), (540, 380, 200), (batch, 3)).tolist()
    aspect = pixels.height / pixels.width
    regions = [align(Region(x, y, width, width * aspect), 640, 480, pixels) for x, y, width in places]

    def frames() -> list[Frame]:
        fresh = [picture.copy() for _ in range(-(-batch // _PEOPLE))]
        return [fresh[n // _PEOPLE] for n in range(batch)]

    slots = np.empty((batch, pixels.height, pixels.width, 3), np.uint8)

    def cut_on_cpu() -> None:
        for slot, frame, region in zip(slots, frames(), regions, strict=True):
            crop(frame, region, pixels, slot)

    store = DeviceFrames(device)

    def cut_on_device() -> None:
        crops(frames(), regions, pixels, store)
        finish(device)

    with tempfile.TemporaryDirectory() as folder:
        graph = subject.in_precision(precision, Path(folder))
        runtime = open_runtime(graph, "onnxruntime", device=str(device), max_batch=batch, pixels=pixels)
    family = Heatmap(pixels, COCO_17)
    runners = {
        "cpu": CpuCropRunner(runtime, pixels),
        "device": CropRunners("device").open(runtime, pixels, decoder=family.keypoint_decoder),
    }

    def whole(runner: CropRunner) -> Callable[[], object]:
        return lambda: family.decode(runner(frames(), regions).outputs, regions)

    try:
        return [
            {"part": "preparing", "what": f"crops of {subject.name}, batch {batch}", "way": way, "images/s": figure}
            for way, figure in {
                "cut on the cpu, one core": _rate(cut_on_cpu, batch, seconds),
                "cut on the device": _rate(cut_on_device, batch, seconds),
                "cpu to keypoints": _rate(whole(runners["cpu"]), batch, seconds),
                "device to keypoints": _rate(whole(runners["device"]), batch, seconds),
            }.items()
        ]
    finally:
        runtime.close()


def _rate(call: Callable[[], object], batch: int, seconds: float) -> int:
    for _ in range(2):
        call()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        call()
        count += batch
    return round(count / (time.perf_counter() - started))
