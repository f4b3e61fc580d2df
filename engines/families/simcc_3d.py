"""RTMW3D: SimCC with a third axis, for the depth of the whole body's keypoints (Jiang et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.families.poses_in_frame import CONFIDENT, TopDownFamily, poses_from_input
from engines.inputs import Arrays
from engines.ops.keypoint_decoding import decode_simcc
from engines.poses import Floats, Poses, Region

# Lengths of bones relative to a person's stature (Drillis and Contini, 1966), and the stature of an average adult.
_BONES = {"shoulder elbow": 0.186, "elbow wrist": 0.146, "hip knee": 0.245, "knee ankle": 0.246}
_STATURE = 1.7  # metres
_LEAST = 0.3  # of a bone's length is seen at least; depths that leave less are inaccurate


@dataclass(kw_only=True, eq=False)
class SimCC3D(TopDownFamily):
    """Three outputs, for x, y and z: (n, K, split x width), (n, K, split x height), (n, K, bins).

    The bins of z reach from -z_range to z_range, in metres behind the middle of the hips. The network gives x and y in
    pixels alone, and no image tells how large a person is: in 3D they are scaled so that arms and legs have the
    lengths of an adult of 1.7 m, and count from the middle of the hips.
    names: what the graph calls the outputs, by default its only three, in their order. split: bins per input pixel.
    z_range: of RTMW3D's training (projects/rtmpose3d of open-mmlab/mmpose).
    Raises ValueError for other than three names, and for a skeleton without hips, or without arms and legs.
    """

    names: Sequence[str] | None = None
    split: float = 2.0
    z_range: float = 2.1744869

    def __post_init__(self) -> None:
        if self.names is not None:
            if len(set(self.names)) != 3:
                raise ValueError(f"names {list(self.names)} must be three: the outputs along x, y and z")
            self.outputs = tuple(self.names)
        index = {name: k for k, name in enumerate(self.skeleton.keypoints)}
        bones = {
            tuple(index.get(f"{side}_{end}", -1) for end in bone.split()): length * _STATURE
            for bone, length in _BONES.items()
            for side in ("left", "right")
        }
        self._bones = np.array([ends for ends in bones if min(ends) >= 0], np.intp).reshape(-1, 2)
        self._lengths = np.array([length for ends, length in bones.items() if min(ends) >= 0], np.float32)
        self._hips = [index[name] for name in ("left_hip", "right_hip") if name in index]
        if not len(self._bones) or len(self._hips) != 2:
            raise ValueError(
                f"skeleton {self.skeleton.name}: it has no hips, arms and legs, which the scale is taken from"
            )

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        x, y, z = (np.asarray(output, np.float32) for output in map(outputs.get, self.outputs or outputs))
        bins, scores = decode_simcc(x, y)
        poses = poses_from_input(bins / np.float32(self.split), scores, regions, self.pixels, self.skeleton)
        depths = (2 * z.argmax(axis=-1).astype(np.float32) / z.shape[-1] - 1) * np.float32(self.z_range)
        return replace(poses, keypoints_3d=self._in_metres(poses, depths, regions))

    def _in_metres(self, poses: Poses, depths: Floats, regions: Sequence[Region]) -> Floats:
        """(n, K, 3) metres, from keypoints in the frame and their (n, K) depths in metres."""
        first, second = self._bones.T
        seen = np.minimum(poses.keypoint_scores[:, first], poses.keypoint_scores[:, second]) > CONFIDENT
        pixels = np.linalg.norm(poses.keypoints[:, first] - poses.keypoints[:, second], axis=-1) * seen
        depth = depths[:, first] - depths[:, second]
        across = np.sqrt(np.maximum(self._lengths**2 - depth**2, (_LEAST * self._lengths) ** 2))
        # The scale that brings all seen bones nearest to their lengths, by least squares; without any, a person's
        # region is taken for as high as an adult.
        squares = (pixels**2).sum(axis=1)
        guess = _STATURE / np.array([region.height for region in regions], np.float32)
        scale = np.where(squares > 0, (pixels * across).sum(axis=1) / np.where(squares > 0, squares, 1), guess)
        flat = (poses.keypoints - poses.keypoints[:, self._hips].mean(axis=1, keepdims=True)) * scale[:, None, None]
        return np.concatenate([flat, depths[..., None]], axis=-1).astype(np.float32)
