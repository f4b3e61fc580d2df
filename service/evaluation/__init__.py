"""Metrics of pose estimation and tracking: keypoint AP, PoseTrack's metrics, CLEAR MOT, IDF1 and HOTA."""

from service.evaluation.clear import ClearMot, clear_mot
from service.evaluation.higher_order import ALPHAS, Hota, hota
from service.evaluation.idf1 import Identity, identity
from service.evaluation.joint_ap import JointAp, posetrack_map
from service.evaluation.joint_mot import JointMot, posetrack_mot
from service.evaluation.joints import CORRECT, POSEVAL, JointFrame, Quirks
from service.evaluation.keypoints import KeypointAp, keypoint_ap
from service.evaluation.sequence import TrackedFrame, TrackedSequence, compare_poses

__all__ = [
    "ALPHAS",
    "CORRECT",
    "POSEVAL",
    "ClearMot",
    "Hota",
    "Identity",
    "JointAp",
    "JointFrame",
    "JointMot",
    "KeypointAp",
    "Quirks",
    "TrackedFrame",
    "TrackedSequence",
    "clear_mot",
    "compare_poses",
    "hota",
    "identity",
    "keypoint_ap",
    "posetrack_map",
    "posetrack_mot",
]
