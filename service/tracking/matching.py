"""The rounds in which the poses of a frame are given to people: each round has what the ones before left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats
from service.tracking import colours
from service.tracking.assignment import Method, assign
from service.tracking.config import TrackerConfig
from service.tracking.similarity import Indices, Observed, Pairs, between, in_sight, out_of_sight
from service.tracking.state import UNCONFIRMED, TrackState

HOLD = 0.25
"""Seconds out of sight for which flow is believed and people still count as in sight."""
PAUSE = 1.0
"""Seconds between frames after which the scene may be another."""
_SOMEONE_ELSE = 0.25
"""How likely somebody else is where a person out of sight is expected, before one looks at colours."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A frame as the tracker has it before it knows who is who.

    held: (T,) 0..1, how far flow is to be trusted with each person. worn: None without pixels. now: seconds.
    """

    seen: Observed
    worn: colours.Appearance | None
    held: Floats
    now: float


class _Round:
    """Gives poses to tracks until either run out."""

    def __init__(self, tracks: int, poses: int) -> None:
        self.free_tracks, self.free_poses = np.ones(tracks, np.bool_), np.ones(poses, np.bool_)
        self.rows: list[Indices] = []
        self.chosen: list[Indices] = []

    def take(self, pairs: Pairs, who: Mask, which: Mask, least: float, how: Method) -> None:
        if not (self.free_tracks.any() and self.free_poses.any()):
            return
        allowed = (who & self.free_tracks)[pairs.tracks] & (which & self.free_poses)[pairs.poses]
        allowed &= pairs.similarity >= least
        if allowed.any():
            row, column = assign(pairs.where(allowed), least, how)
            self.free_tracks[row], self.free_poses[column] = False, False
            self.rows.append(row)
            self.chosen.append(column)


def match(tracks: TrackState, scene: Scene, config: TrackerConfig, sigmas: Floats) -> tuple[Indices, Indices]:
    """Rows of tracks and the poses that they are, (M,) each.

    People in sight get the confident poses, then the weak ones (as in ByteTrack, Zhang et al., ECCV 2022); then people
    out of sight get theirs, and at last those who are not confirmed yet.
    """
    seen = scene.seen
    rounds = _Round(len(tracks), len(seen.scores))
    if len(tracks) and len(seen.scores):
        strong, fit = seen.scores >= config.birth_score, seen.scores >= config.weak_score
        confirmed = tracks.ids != UNCONFIRMED
        in_view = confirmed & (tracks.missed < HOLD) & (scene.now - tracks.seen < PAUSE)
        near = in_sight(tracks, scene.held, seen, sigmas)
        for which in (strong, *_better_first(seen, ~strong, config.duplicate_oks, sigmas)):
            rounds.take(near, in_view, which, config.match_oks, config.assignment)
        if (confirmed & rounds.free_tracks).any() and (fit & rounds.free_poses).any():
            # Always the best sum: who was long out of sight is told apart by exclusion.
            rounds.take(_far(tracks, scene, config, sigmas), confirmed, fit, config.match_lost, "optimal")
        rounds.take(near, ~confirmed, fit, config.match_oks, config.assignment)
    if not rounds.rows:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    return np.concatenate(rounds.rows), np.concatenate(rounds.chosen)


def singles(seen: Observed, candidates: Indices, known: Indices, least: float, sigmas: Floats) -> Indices:
    """The candidates, best first, that are not a second pose of a known one or of a better candidate."""
    order = candidates[np.argsort(-seen.scores[candidates], kind="stable")]
    if not len(order):
        return order
    alike = between(seen, order, np.concatenate([known, order]), sigmas) >= least
    single: Mask = ~np.any(alike[:, : len(known)], axis=1)
    for n in range(1, len(order)):
        single[n] &= not (alike[n, len(known) : len(known) + n] & single[:n]).any()
    return order[single]


def _better_first(seen: Observed, weak: Mask, least: float, sigmas: Floats) -> tuple[Mask, ...]:
    """Weak poses in two parts: first those that are not a second, worse pose of one person."""
    count = np.count_nonzero(weak)
    if count < 2:
        return (weak,) if count else ()
    better = np.zeros(len(weak), np.bool_)
    better[singles(seen, np.flatnonzero(weak), np.zeros(0, np.intp), least, sigmas)] = True
    return better, weak & ~better


def _far(tracks: TrackState, scene: Scene, config: TrackerConfig, sigmas: Floats) -> Pairs:
    """How likely each pose is each person out of sight, by place and time, size and shape, and colours."""
    seen = scene.seen
    far = out_of_sight(tracks, scene.now - tracks.seen, seen, sigmas)
    likely = np.full(len(far.tracks), 0.5, np.float32)
    if scene.worn is not None:
        likely = colours.alike(tracks.colours, scene.worn, far.tracks, far.poses)
    for_it, against = far.similarity * likely, _SOMEONE_ELSE * (1 - likely)
    real = np.minimum(seen.scores / max(config.birth_score, 1e-6), 1)[far.poses]
    return Pairs(far.tracks, far.poses, real * for_it / (for_it + against))
