"""Decodes the outputs of a model of any role in input pixels, for tools that run a network without a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engines.catalogue import Model
from engines.families import open_detector, open_estimator, open_one_stage_model
from engines.families.base import Detector, OneStageModel
from engines.inputs import Arrays
from engines.poses import Detections, Poses, Region

CropResult = Poses | Detections
CropDecoder = Callable[[Arrays], Sequence[CropResult]]
"""The outputs of a batch to the people in each of its crops: one person per crop for an estimator."""


LOW_SCORE = 0.15
"""The lowest score of a detector's boxes that are decoded: half of the usual threshold."""


def crop_decoder(model: Model) -> CropDecoder:
    """The decoder for the outputs of this model's graph. The flip test is left out, as it runs the network twice.

    Raises CatalogueError if the entry does not fit its family.
    """
    whole = Region(model.input.width / 2, model.input.height / 2, model.input.width, model.input.height)
    plain = replace(model, options={key: value for key, value in model.options.items() if key != "flip"})
    if model.role == "estimator":
        estimator = open_estimator(plain)

        def decode_persons(outputs: Arrays) -> Sequence[CropResult]:
            poses = estimator.decode(outputs, [whole] * _count(outputs))
            return [poses.select(slice(n, n + 1)) for n in range(len(poses))]

        return decode_persons
    if model.role == "detector":
        low = replace(plain, options={**plain.options, "min_score": LOW_SCORE})
        family: Detector | OneStageModel = open_detector(low)
    else:
        family = open_one_stage_model(plain)
    return lambda outputs: family.decode(outputs, [whole] * _count(outputs))


def _count(outputs: Arrays) -> int:
    return len(next(iter(outputs.values())))
