"""Which pose is which person, given how alike they are."""

from __future__ import annotations

from typing import Literal

import lap
import numpy as np

from service.tracking.similarity import Indices, Pairs

Method = Literal["greedy", "optimal"]


def assign(pairs: Pairs, least: float, method: Method) -> tuple[Indices, Indices]:
    """Tracks and poses, (M,) each, that belong together: no track and no pose twice.

    pairs: none of them below `least`, which is what a pair left apart is worth to the best sum.
    """
    count = len(pairs.tracks)
    if len(set(pairs.tracks.tolist())) == count == len(set(pairs.poses.tolist())):
        return pairs.tracks, pairs.poses  # nobody is in question, as in most frames
    return _greedy(pairs) if method == "greedy" else _optimal(pairs, least)


def _greedy(pairs: Pairs) -> tuple[Indices, Indices]:
    """The best pair first (Xiao, Wu, Wei, 2018, section 2.3); of equals the one that comes first."""
    order = np.argsort(-pairs.similarity, kind="stable")
    tracks, poses = [], []
    taken_tracks, taken_poses = set(), set()
    for track, pose in zip(pairs.tracks[order].tolist(), pairs.poses[order].tolist(), strict=True):
        if track not in taken_tracks and pose not in taken_poses:
            taken_tracks.add(track)
            taken_poses.add(pose)
            tracks.append(track)
            poses.append(pose)
    return np.array(tracks, np.intp), np.array(poses, np.intp)


def _optimal(pairs: Pairs, least: float) -> tuple[Indices, Indices]:
    """The largest sum of similarities above `least`, by Jonker and Volgenant's algorithm."""
    tracks, row = np.unique(pairs.tracks, return_inverse=True)
    poses, column = np.unique(pairs.poses, return_inverse=True)
    cost = np.full((len(tracks), len(poses)), 2.0)
    cost[row, column] = 1 - pairs.similarity
    _, chosen, _ = lap.lapjv(cost, extend_cost=True, cost_limit=1 - least + 1e-6)
    matched = np.flatnonzero(chosen >= 0)
    return tracks[matched], poses[chosen[matched]]
