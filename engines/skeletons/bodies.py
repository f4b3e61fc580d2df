"""Skeletons of human bodies. Keypoints without published sigmas have those of the nearest COCO keypoint."""

from __future__ import annotations

from engines.skeletons.definition import Skeleton, between, define

ARMS_AND_LEGS = (
    "left_shoulder-left_elbow left_elbow-left_wrist right_shoulder-right_elbow right_elbow-right_wrist "
    "left_hip-left_knee left_knee-left_ankle right_hip-right_knee right_knee-right_ankle "
)
TRUNK = "left_shoulder-right_shoulder left_hip-right_hip left_shoulder-left_hip right_shoulder-right_hip "
FEET = (
    "left_ankle-left_big_toe left_ankle-left_small_toe left_ankle-left_heel right_ankle-right_big_toe "
    "right_ankle-right_small_toe right_ankle-right_heel "
)
HEAD = "nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear "


def _body(name: str, keypoints: str, limbs: str) -> Skeleton:
    return define(name, keypoints.split(), between(limbs))


COCO_17 = _body(
    "coco-17",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    ARMS_AND_LEGS + TRUNK + HEAD + "left_ear-left_shoulder right_ear-right_shoulder",
)
POSETRACK_15 = _body(
    "posetrack-15",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist head_bottom nose head_top",
    ARMS_AND_LEGS + TRUNK + "head_bottom-nose nose-head_top",
)
BLAZEPOSE_33 = _body(
    "blazepose-33",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
    "left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
    "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle left_heel right_heel left_foot_index right_foot_index",
    ARMS_AND_LEGS + TRUNK + "nose-left_eye_inner left_eye_inner-left_eye left_eye-left_eye_outer "
    "left_eye_outer-left_ear nose-right_eye_inner right_eye_inner-right_eye right_eye-right_eye_outer "
    "right_eye_outer-right_ear left_mouth-right_mouth left_wrist-left_pinky left_wrist-left_index "
    "left_wrist-left_thumb left_pinky-left_index right_wrist-right_pinky right_wrist-right_index "
    "right_wrist-right_thumb right_pinky-right_index left_ankle-left_heel left_heel-left_foot_index "
    "left_ankle-left_foot_index right_ankle-right_heel right_heel-right_foot_index right_ankle-right_foot_index",
)
HALPE_26 = _body(
    "halpe-26",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle head neck middle_hip left_big_toe "
    "right_big_toe left_small_toe right_small_toe left_heel right_heel",
    ARMS_AND_LEGS + "head-neck neck-left_shoulder neck-right_shoulder neck-middle_hip middle_hip-left_hip "
    "middle_hip-right_hip " + HEAD + FEET,
)
MPII_16 = _body(
    "mpii-16",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top right_wrist "
    "right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    ARMS_AND_LEGS + "pelvis-left_hip pelvis-right_hip pelvis-thorax thorax-left_shoulder thorax-right_shoulder "
    "thorax-upper_neck upper_neck-head_top",
)
OPENPOSE_25 = _body(
    "openpose-25",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist middle_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel",
    ARMS_AND_LEGS + "neck-nose neck-left_shoulder neck-right_shoulder neck-middle_hip middle_hip-left_hip "
    "middle_hip-right_hip " + HEAD + FEET,
)
