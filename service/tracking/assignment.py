"""Assigning poses to tracks by their similarities."""

from __future__ import annotations

from typing import Literal

import lap
import numpy as np

from service.tracking.similarity import Indices, Pairs

Method = Literal["greedy", "optimal"]


def assign(pairs: Pairs, least: float, method: Method) -> tuple[Indices, Indices]:
    """Return the assigned tracks and poses, (M,) each. No track and no pose is assigned twice.

    pairs: candidates, with similarities of at least `least`. In the optimal sum, an unassigned pair counts as `least`.
    """
    count = len(pairs.tracks)
    if len(set(pairs.tracks.tolist())) == count == len(set(pairs.poses.tolist())):
        return pairs.tracks, pairs.poses  # all pairs are unambiguous, as in most frames
    return _greedy(pairs) if method == "greedy" else _optimal(pairs, least)


def _greedy(pairs: Pairs) -> tuple[Indices, Indices]:
    """Assign the best pairs first (Xiao, Wu, Wei, 2018, section 2.3). Ties are resolved by order."""
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
    """Maximise the sum of similarities above `least`, with the algorithm of Jonker and Volgenant."""
    tracks, row = _numbered(pairs.tracks)
    poses, column = _numbered(pairs.poses)
    top = float(pairs.similarity.max())
    cost = np.full((len(tracks), len(poses)), 2 * (top - least) + 1)
    cost[row, column] = top - pairs.similarity
    _, chosen, _ = lap.lapjv(cost, extend_cost=True, cost_limit=top - least + 1e-6)
    matched = np.flatnonzero(chosen >= 0)
    return tracks[matched], poses[chosen[matched]]


def _numbered(indices: Indices) -> tuple[Indices, Indices]:
    """The distinct indices in order, and the place of each index among them, as `np.unique` does, which sorts."""
    there = np.bincount(indices) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[indices]
