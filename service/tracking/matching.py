"""Matching the poses of a frame to people in several rounds.

Each round uses the poses and people that the rounds before it left unmatched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats
from service.tracking import colours, evidence
from service.tracking.assignment import Method, assign
from service.tracking.config import TrackerConfig
from service.tracking.similarity import Indices, Observed, Pairs, between
from service.tracking.state import UNCONFIRMED, TrackState

PAUSE = 1.0
"""Seconds between frames after which the scene may have changed."""
_RENEWAL = 1.5
"""Seconds unseen from which a match needs `match_evidence`; sooner it needs less."""
_NEWCOMER, _WEAK = 2.0, 3.0
"""How much less evidence counts for people who are not confirmed yet, and for poses below `birth_score`."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A frame before its poses are matched.

    held: (T,) 0..1, the trust in the flow of each person. appearance: None without pixels. now: seconds. hold: seconds
    without a pose in which a person still counts as in sight.
    """

    seen: Observed
    appearance: colours.Appearance | None
    held: Floats
    now: float
    hold: float


class _Round:
    """Assigns poses to tracks, and keeps the poses and tracks that are still unmatched."""

    def __init__(self, tracks: int, poses: int) -> None:
        self.free_tracks, self.free_poses = np.ones(tracks, np.bool_), np.ones(poses, np.bool_)
        self.rows: list[Indices] = []
        self.chosen: list[Indices] = []

    def assign(self, pairs: Pairs, tracks: Mask, poses: Mask, least: float, method: Method) -> None:
        poses, tracks = poses & self.free_poses, tracks & self.free_tracks
        if not (poses.any() and tracks.any()):
            return
        allowed = tracks[pairs.tracks] & poses[pairs.poses]
        allowed &= pairs.similarity >= least
        if allowed.any():
            row, column = assign(pairs.where(allowed), least, method)
            self.free_tracks[row], self.free_poses[column] = False, False
            self.rows.append(row)
            self.chosen.append(column)


def match(tracks: TrackState, scene: Scene, config: TrackerConfig, sigmas: Floats) -> tuple[Indices, Indices]:
    """Return the matched rows of tracks and poses, (M,) each.

    Everybody takes part in the first round, so that nobody whose own pose is weak takes a newcomer's confident one.
    Weak poses that duplicate better ones follow. Poses below `weak_score` only keep people who are in sight (after
    ByteTrack, Zhang et al., ECCV 2022). The rest is left to people who are not confirmed yet.
    """
    seen = scene.seen
    rounds = _Round(len(tracks), len(seen.scores))
    if len(tracks) and len(seen.scores):
        strong, fit = seen.scores >= config.birth_score, seen.scores >= config.weak_score
        confirmed = (tracks.ids != UNCONFIRMED) | waits_for_id(tracks, config)
        in_view = confirmed & (tracks.missed < scene.hold)
        pairs, cues = evidence.between(tracks, scene.held, scene.now - tracks.seen, seen, scene.appearance, sigmas)
        # In a short time it is less likely, in proportion, that somebody else has come in a person's place.
        sooner = np.log(np.minimum(cues.unseen / _RENEWAL, 1))
        pairs = pairs.where(pairs.similarity >= config.match_evidence + sooner)
        least, method = config.match_evidence + float(sooner.min(initial=0)), config.assignment
        weak = _better_first(seen, ~strong & fit, config.duplicate_oks, sigmas)
        distinct = strong | weak[0] if weak else strong
        first, anybody = _first_round(pairs, confirmed, in_view, strong), np.ones(len(tracks), np.bool_)
        rounds.assign(first, anybody, distinct, least - _NEWCOMER - _WEAK, method)
        for which in weak[1:]:
            rounds.assign(pairs, confirmed, which, least, method)
        rounds.assign(pairs, in_view, ~fit, least, method)
        rounds.assign(pairs, ~confirmed, fit, least, method)
    if not rounds.rows:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    return np.concatenate(rounds.rows), np.concatenate(rounds.chosen)


def _first_round(pairs: Pairs, confirmed: Mask, in_view: Mask, strong: Mask) -> Pairs:
    """The pairs of the first round, with less evidence for those of newcomers and of weak poses. Newcomers leave poses
    to people out of sight: of somebody who has come back, the first poses were often too weak to be known."""
    if confirmed.all() and strong.all():
        return pairs
    new, lost = ~confirmed[pairs.tracks], (confirmed & ~in_view)[pairs.tracks]
    claimed = np.zeros(len(strong), np.bool_)
    claimed[pairs.poses[lost]] = True
    behind = (new * _NEWCOMER + ~strong[pairs.poses] * _WEAK).astype(np.float32)
    return Pairs(pairs.tracks, pairs.poses, pairs.similarity - behind).where(~(new & claimed[pairs.poses]))


def waits_for_id(tracks: TrackState, config: TrackerConfig) -> Mask:
    """The people (T,) who are no mistake of the detector, but without an id until it is clear who they are."""
    grown = tracks.seen - tracks.born >= config.confirm_seconds
    waits: Mask = (tracks.ids == UNCONFIRMED) & (grown | (tracks.scores >= config.birth_score))
    return waits


def singles(seen: Observed, candidates: Indices, known: Indices, least: float, sigmas: Floats) -> Indices:
    """Return the candidates, best first, without duplicates of known poses or of better candidates."""
    order = candidates[np.argsort(-seen.scores[candidates], kind="stable")]
    if not len(order):
        return order
    alike = between(seen, order, np.concatenate([known, order]), sigmas) >= least
    single: Mask = ~np.any(alike[:, : len(known)], axis=1)
    for n in range(1, len(order)):
        single[n] &= not (alike[n, len(known) : len(known) + n] & single[:n]).any()
    return order[single]


def _better_first(seen: Observed, weak: Mask, least: float, sigmas: Floats) -> tuple[Mask, ...]:
    """Split the weak poses in two: poses that do not duplicate a better weak pose, and the duplicates."""
    count = np.count_nonzero(weak)
    if count < 2:
        return (weak,) if count else ()
    better = np.zeros(len(weak), np.bool_)
    better[singles(seen, np.flatnonzero(weak), np.zeros(0, np.intp), least, sigmas)] = True
    return better, weak & ~better
