"""Object keypoint similarity of poses, as in COCO's keypoint evaluation."""

from __future__ import annotations

import numpy as np

from engines.poses import Floating


def oks(a: Floating, b: Floating, areas: Floating, sigmas: Floating, weights: Floating | None = None) -> Floating:
    """Object keypoint similarity of every pose of `a` with every pose of `b`.

    The weighted mean over keypoints of exp(-d² / (2 s² (2σ)²)), where d is the distance between the two, s² the area of
    the pose of `a` and σ the keypoint's constant (cocodataset.org, keypoints evaluation; the factor 2 of σ is from
    its code, pycocotools).

    a: (N, K, 2), b: (M, K, 2) finite pixels. areas: (N,) square pixels of the poses of `a`. sigmas: (K,).
    weights: (N, K), at least 0: how much each keypoint of `a` counts (COCO: 1 where it is annotated); None counts all.
    Returns (N, M) in 0..1, in the precision of `a`; 0 where no keypoint counts.
    """
    similarity = keypoint_similarity(a[:, None] - b[None], areas[:, None], sigmas)
    if weights is None:
        weights = np.ones_like(a[..., 0])
    total = weights.sum(axis=1, keepdims=True)
    summed: Floating = (similarity @ weights[:, :, None])[..., 0]
    return summed / np.where(total > 0, total, 1)


def keypoint_similarity(offsets: Floating, areas: Floating, sigmas: Floating) -> Floating:
    """The terms that `oks` averages: exp(-d² / (2 s² (2σ)²)) of each keypoint.

    offsets: (..., K, 2) pixels between two poses. areas: (...) square pixels. sigmas: (K,).
    Returns (..., K) in 0..1, in the precision of `offsets`.
    """
    dx, dy = offsets[..., 0], offsets[..., 1]
    return fall_off(dx * dx + dy * dy, areas, sigmas)


def fall_off(squared: Floating, areas: Floating, sigmas: Floating) -> Floating:
    """`keypoint_similarity` of squared distances (..., K) in square pixels."""
    eps = np.spacing(1.0)  # COCO's guard against an area of 0
    scale = (-0.5 / (np.square(2 * sigmas) * (areas[..., None] + eps))).astype(squared.dtype)
    similarity: Floating = np.exp(squared * scale)
    return similarity
