"""Keypoint AP of whole pipelines on real images: python -m tests.benchmarks accuracy [--json FILE]
[--data FOLDER] [--models NAME,...]

Needs ../shared/data/coco, and the models of package registries, which it fetches. The last 32 images in the order of
the annotation file, by `service.evaluation`. With --data, all images of a folder with `person_keypoints.json`, in
COCO's format, and the images that it names; --models picks models, in the precision that is served. Images go in as
the server gets them: encoded, and decoded only as large as the pipeline needs; `full decode` shows what that costs.
CPU ms: the processor time of this process an image, all cores together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import orjson

from engines.catalogue import Catalogue, load
from engines.poses import Poses
from engines.skeletons import COCO_17
from service.config import Settings
from service.evaluation import keypoint_ap
from service.formats.coco import coco_results
from service.inference.model_registry import Serving, open_serving
from service.inference.pipeline import Pipeline
from service.inference.stage import InferenceOptions
from service.media.decode import ImageLimits, decode
from tests.benchmarks.report import Row, main, table
from tests.shared import SHARED, weights_catalogue

_RUNS = (
    ("tinypose", "fp32", False),
    ("tinypose", "auto", False),
    ("tinypose", "fp32", True),
    ("tinypose-320", "fp32", False),
    ("simplepose", "fp32", False),
    ("posenet", "fp32", False),
    ("posenet", "fp32", True),
    ("blazepose-single", "fp32", False),
    ("blazepose", "fp32", False),
    ("blazepose", "auto", False),
    ("blazepose", "fp32", True),
    ("movenet-thunder", "fp32", False),
    ("movenet-thunder", "auto", False),
    ("movenet-lightning", "auto", False),
    ("movenet-multipose", "auto", False),
    ("movenet-multipose-batched", "auto", False),
)
"""(model, precision, whether images are decoded at full size)"""


_COCO, _COUNT = SHARED / "data/coco", 32


def evaluate(
    catalogue: Catalogue, model: str, precision: str, full_size: bool, data: Path = _COCO, images: int | None = _COUNT
) -> Row:
    """Compute AP and AR of one model on the last `images` images in the folder `data`; None: on all."""
    truth = json.loads((data / "person_keypoints.json").read_bytes())
    truth["images"] = truth["images"][-images:] if images else truth["images"]
    numbers = {image["id"] for image in truth["images"]}
    truth["annotations"] = [person for person in truth["annotations"] if person["image_id"] in numbers]
    serving = open_serving(catalogue, [model], Settings(precision=precision))
    files = [data / image["file_name"] for image in truth["images"]]
    found, seconds = asyncio.run(_estimate(serving, files, full_size))
    results = [
        row
        for image, poses in zip(truth["images"], found, strict=True)
        for row in coco_results(poses.as_skeleton(COCO_17), image_id=image["id"])
    ]
    figures = keypoint_ap(truth, orjson.loads(orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)))
    spec = serving.default.pipeline.stages[-1].runtime.spec
    return {
        "model": model,
        "precision": spec.precision,
        "decode": "full" if full_size else "as needed",
        "AP": round(figures.ap, 3),
        "AP50": round(figures.ap50, 3),
        "AR": round(figures.ar, 3),
        "people": len(results),
        "CPU ms": round(1e3 * seconds / len(files)),
    }


async def _estimate(serving: Serving, files: list[Path], full_size: bool) -> tuple[list[Poses], float]:
    """The people of each image, and the processor time of all."""
    await serving.start()
    options = InferenceOptions(min_score=0.01, admitted=True)
    try:
        started = time.process_time()
        found = [await _look(serving.default.pipeline, file.read_bytes(), options, full_size) for file in files]
        return found, time.process_time() - started
    finally:
        await serving.close(1.0)


async def _look(pipeline: Pipeline, data: bytes, options: InferenceOptions, full_size: bool) -> Poses:
    if not full_size:
        return (await pipeline.image(data, options)).poses
    poses, _ = await pipeline.frame(decode(data, ImageLimits()).pixels, options)
    return poses


def run(data: Path | None, models: str) -> list[Row]:
    """Measure every pipeline of _RUNS, or the models that are named."""
    runs = tuple((name, "auto", False) for name in models.split(",")) if models else _RUNS
    with tempfile.TemporaryDirectory() as folder:
        catalogue = load([weights_catalogue(Path(folder))])
        where = (_COCO, _COUNT) if data is None else (data, None)
        return [evaluate(catalogue, *which, *where) for which in runs]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", default="")
    options, sys.argv[1:] = parser.parse_known_args()
    main(lambda: run(options.data, options.models), table)
