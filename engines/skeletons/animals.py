"""Skeletons of animals."""

from __future__ import annotations

from engines.skeletons.definition import between, define

AP10K_17 = define(
    "ap10k-17",
    [
        *("left_eye", "right_eye", "nose", "neck", "root_of_tail"),
        *("left_shoulder", "left_elbow", "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw"),
        *("left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw"),
    ],
    between(
        "left_eye-right_eye left_eye-nose right_eye-nose nose-neck neck-root_of_tail neck-left_shoulder "
        "left_shoulder-left_elbow left_elbow-left_front_paw neck-right_shoulder right_shoulder-right_elbow "
        "right_elbow-right_front_paw root_of_tail-left_hip left_hip-left_knee left_knee-left_back_paw "
        "root_of_tail-right_hip right_hip-right_knee right_knee-right_back_paw"
    ),
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.107, 0.087,
        0.089,
    ),
)  # fmt: skip
"""Mammals, with the order and sigmas of AP-10K (Yu et al., NeurIPS Datasets and Benchmarks 2021)."""
