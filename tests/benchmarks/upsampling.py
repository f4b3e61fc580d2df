"""Gain of moving convolutions before upsampling: python -m tests.benchmarks upsampling [--json FILE]

Processor time of whole images with the model `blazepose`, from JPEG to people: its graphs rewritten by
`engines.runtimes.openvino.upsampling`, and as they are. Both pipelines get each image in turn. Needs
../shared/data/coco.
"""

from __future__ import annotations

import asyncio
import sys
import time
from unittest.mock import patch

import numpy as np

from engines.catalogue.models import load
from engines.runtimes.openvino import graphs
from service.config import Settings
from service.inference.model_registry import Serving, open_serving
from service.inference.stage import InferenceOptions
from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.shared import SHARED

_IMAGES = 24
_ROUNDS = 4
_MODEL = "blazepose"


async def _measure(pipelines: dict[str, Serving]) -> dict[str, list[float]]:
    """The processor time of each image, in seconds, by pipeline."""
    files = [path.read_bytes() for path in sorted((SHARED / "data/coco").glob("*.jpg"))[:_IMAGES]]
    options = InferenceOptions(admitted=True)
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for serving in pipelines.values():
        await serving.start()
    try:
        for turn in range(_ROUNDS + 1):
            for number, data in enumerate(files):
                for name in sorted(pipelines, reverse=bool((turn + number) % 2)):
                    started = time.process_time()
                    await pipelines[name].default.pipeline.image(data, options)
                    if turn:  # the first round warms up
                        seconds[name].append(time.process_time() - started)
    finally:
        for serving in pipelines.values():
            await serving.close(1.0)
    return seconds


def run() -> list[Row]:
    """A row for each form of the graphs, and their ratio."""
    catalogue, settings = load(), Settings()
    pipelines = {"moved": open_serving(catalogue, [_MODEL], settings)}
    with patch.object(graphs, "convolve_before_upsampling"):
        pipelines["as they are"] = open_serving(catalogue, [_MODEL], settings)
    seconds = asyncio.run(_measure(pipelines))
    rows: list[Row] = [
        {"convolutions": name, "CPU ms an image": round(1e3 * float(np.mean(taken)), 1)}
        for name, taken in seconds.items()
    ]
    share = float(np.median(np.divide(seconds["moved"], seconds["as they are"])))
    return [*rows, goal("processor time of an image, moved / as they are", share, "<", 0.97)]


if __name__ == "__main__":
    if not SHARED.is_dir():
        print("needs real images in ../shared", file=sys.stderr)
        sys.exit(2)
    main(run, show)
