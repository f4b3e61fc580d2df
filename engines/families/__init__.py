"""The families: the code for each kind of model, by its name in the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from engines.catalogue import CatalogueError, Model
from engines.families.associative_embedding import AssociativeEmbedding
from engines.families.base import Detector, Embedder, Estimator, Family, HasKeypointCount, OneStageModel
from engines.families.blazepose import BlazePose
from engines.families.blazepose_detector import BlazePoseDetector
from engines.families.centre_point import CentrePoint
from engines.families.detections import BoxDetector, KeypointDetector
from engines.families.detrpose import DETRPose
from engines.families.embedding import Embedding
from engines.families.heatmap import Heatmap
from engines.families.movenet import MoveNet, MoveNetSingle
from engines.families.movenet_heads import MultiPoseHeads, SinglePoseHeads
from engines.families.nanodet import NanoDet
from engines.families.part_affinity import PartAffinity
from engines.families.personlab import PersonLab
from engines.families.rtmdet import RTMDet
from engines.families.rtmo import RTMO
from engines.families.simcc import SimCC
from engines.families.simcc_3d import SimCC3D
from engines.families.yolo_pose import YOLOPose
from engines.families.yolox import YOLOX
from engines.inputs import TensorSpec
from engines.skeletons import Skeleton

Role = TypeVar("Role")

DETECTORS: Mapping[str, Callable[..., Detector]] = MappingProxyType(
    {
        "blazepose_detector": BlazePoseDetector,
        "centre_point": CentrePoint,
        "detections": BoxDetector,
        "nanodet": NanoDet,
        "rtmdet": RTMDet,
        "yolox": YOLOX,
    }
)
EMBEDDERS: Mapping[str, Callable[..., Embedder]] = MappingProxyType({"embedding": Embedding})
ESTIMATORS: Mapping[str, Callable[..., Estimator]] = MappingProxyType(
    {
        "blazepose": BlazePose,
        "heatmap": Heatmap,
        "movenet": MoveNetSingle,
        "movenet_heads": SinglePoseHeads,
        "simcc": SimCC,
        "simcc_3d": SimCC3D,
    }
)
ONE_STAGE_MODELS: Mapping[str, Callable[..., OneStageModel]] = MappingProxyType(
    {
        "associative_embedding": AssociativeEmbedding,
        "detections": KeypointDetector,
        "detrpose": DETRPose,
        "movenet": MoveNet,
        "movenet_heads": MultiPoseHeads,
        "part_affinity": PartAffinity,
        "personlab": PersonLab,
        "rtmo": RTMO,
        "yolo_pose": YOLOPose,
    }
)


def open_detector(model: Model) -> Detector:
    """The detector of a catalogue entry. Raises CatalogueError if the family or its options are wrong."""
    return _build(model, DETECTORS, model.input)


def open_embedder(model: Model) -> Embedder:
    """The embedder of a catalogue entry. Raises CatalogueError if the family or its options are wrong."""
    return _build(model, EMBEDDERS, model.input)


def open_estimator(model: Model) -> Estimator:
    """The estimator of a catalogue entry. Raises CatalogueError if the family, skeleton or options are wrong."""
    return _build(model, ESTIMATORS, model.input, _skeleton(model))


def open_one_stage_model(model: Model) -> OneStageModel:
    """The bottom-up or one-stage model of a catalogue entry. Raises CatalogueError like `open_estimator`."""
    return _build(model, ONE_STAGE_MODELS, model.input, _skeleton(model))


def check_keypoints(model: Model, family: Family, outputs: Sequence[TensorSpec]) -> None:
    """Raise CatalogueError if a graph with these outputs gives more or fewer keypoints than the skeleton has."""
    if model.keypoint_set is None or not isinstance(family, HasKeypointCount) or not outputs:
        return
    count = family.keypoint_count({spec.name: spec.shape for spec in outputs})
    if count is not None and count != len(model.keypoint_set):
        raise CatalogueError(
            f"{model.name}: its graph gives {count:g} keypoints, and skeleton {model.skeleton} has "
            f"{len(model.keypoint_set)}; name a skeleton that fits, or define it as [skeletons.NAME]"
        )


def _skeleton(model: Model) -> Skeleton:
    if model.keypoint_set is None:
        raise CatalogueError(f"{model.name}: a {model.role} has no skeleton")
    return model.keypoint_set


def _build(model: Model, families: Mapping[str, Callable[..., Role]], *arguments: object) -> Role:
    if model.family not in families:
        raise CatalogueError(f"{model.name}: family {model.family!r} is not one of {', '.join(families)}")
    try:
        return families[model.family](*arguments, **model.options)
    except (TypeError, ValueError) as error:  # unknown options, or values out of their range
        raise CatalogueError(f"{model.name}: the options do not fit family {model.family}: {error}") from error
