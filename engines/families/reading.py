"""What a model's outputs say of crops, in input pixels, whatever its role: for tools that look at networks alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engines.catalogue.schema import Model
from engines.families import Detector, OneStageModel, open_detector, open_estimator, open_finder
from engines.inputs import Arrays
from engines.poses import Detections, Poses, Region

Found = Poses | Detections
Read = Callable[[Arrays], Sequence[Found]]
"""Outputs of a batch to what was found in each of its crops: one person per crop of an estimator."""


FAINT = 0.15
"""The score from which a reader tells of a detector's boxes: half of where they begin to count."""


def reader(model: Model) -> Read:
    """How the outputs of this model's graph are read. The flip test is left out: it asks the same network twice.

    Raises CatalogueError where the entry fits no family.
    """
    whole = Region(model.input.width / 2, model.input.height / 2, model.input.width, model.input.height)
    plain = replace(model, options={key: value for key, value in model.options.items() if key != "flip"})
    if model.role == "estimator":
        estimator = open_estimator(plain)

        def read_persons(outputs: Arrays) -> Sequence[Found]:
            poses = estimator.decode(outputs, [whole] * _count(outputs))
            return [poses.select(slice(n, n + 1)) for n in range(len(poses))]

        return read_persons
    if model.role == "detector":
        many: Detector | OneStageModel = open_detector(replace(plain, options={**plain.options, "min_score": FAINT}))
    else:
        many = open_finder(plain)
    return lambda outputs: many.decode(outputs, [whole] * _count(outputs))


def _count(outputs: Arrays) -> int:
    return len(next(iter(outputs.values())))
