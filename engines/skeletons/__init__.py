"""The keypoint sets of models and data sets, conversion between them, and those that users define."""

from engines.skeletons.animals import AP10K_17
from engines.skeletons.bodies import BLAZEPOSE_33, COCO_17, HALPE_26, MPII_16, OPENPOSE_25, POSETRACK_15
from engines.skeletons.built_in import SKELETONS
from engines.skeletons.conversion import convert_keypoints, derivable
from engines.skeletons.definition import UNKNOWN_SIGMA, Skeleton, define
from engines.skeletons.whole_bodies import COCO_WHOLEBODY_133, FACE_68, HAND_21, HANDS_42

__all__ = [
    "AP10K_17",
    "BLAZEPOSE_33",
    "COCO_17",
    "COCO_WHOLEBODY_133",
    "FACE_68",
    "HALPE_26",
    "HANDS_42",
    "HAND_21",
    "MPII_16",
    "OPENPOSE_25",
    "POSETRACK_15",
    "SKELETONS",
    "UNKNOWN_SIGMA",
    "Skeleton",
    "convert_keypoints",
    "define",
    "derivable",
]
