"""The conditions under which trackers are compared: each turns a sequence into what a tracker gets of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame, Poses
from service.evaluation import TrackedFrame, TrackedSequence
from tests.benchmarks.tracking.sequences import ALIKE, RealSequence

_SEEDS = 5
"""Choices of the people who are dropped."""
_CLOCKS = 2
"""Choices of the jitter."""
_JITTER = 0.4
"""Share of the frame interval by which a timestamp may be early or late."""
_DROPPED = 0.2
_PHASES = 3
"""Where only some frames are used, this many choices of the first one."""
_MOST_HIDDEN = 4
"""People of a sequence who are hidden, one in each video."""
_AROUND = 0.3
"""Seconds, and at least `_FEWEST` frames, for which somebody must be seen before and after being hidden."""
_FEWEST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """What a tracker gets of a sequence under one condition.

    frames: (F,) numbers of the sequence's frames. times: (F,) seconds. rows: which poses of each frame are left.
    covered: (F,) True where the camera is covered, so that nobody counts. shrunk: (F,) the whole number by which a
    frame is smaller. hidden: (F,) the id of the true person who does not count, -1 for none. step: how many of the
    sequence's frames each stands for.
    """

    sequence: RealSequence
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    rows: list[NDArray[np.int64]]
    covered: NDArray[np.bool_]
    shrunk: NDArray[np.int64]
    hidden: NDArray[np.int64]
    step: int = 1

    @staticmethod
    def of(sequence: RealSequence, step: int = 1, phase: int = 0) -> Video:
        """Every `step`-th frame, from frame `phase` on."""
        frames = np.arange(phase, len(sequence), step)
        return Video(
            sequence,
            frames,
            frames / sequence.fps,
            [np.arange(len(sequence.people[n])) for n in frames.tolist()],
            np.zeros(len(frames), np.bool_),
            np.ones(len(frames), np.int64),
            np.full(len(frames), -1),
            step,
        )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.sequence.fps / self.step

    def people(self) -> list[Poses]:
        """The poses of each frame."""
        return [
            _smaller(self.sequence.people[number].select(rows), int(shrunk))
            for number, rows, shrunk in zip(self.frames, self.rows, self.shrunk, strict=True)
        ]

    def picture(self, n: int) -> Frame:
        """The pixels of the n-th of these frames."""
        pixels = self.sequence.picture(int(self.frames[n]))
        small = pixels[:: self.shrunk[n], :: self.shrunk[n]] if self.shrunk[n] > 1 else pixels
        return np.zeros_like(small) if self.covered[n] else np.ascontiguousarray(small)

    def compare(self, ids: list[NDArray[np.int64]]) -> TrackedSequence:
        """Compare the ids of each frame's poses, -1 for none, with the truth."""
        compared = []
        for number, rows, given, hidden, covered in zip(
            self.frames, self.rows, ids, self.hidden, self.covered, strict=True
        ):
            truth, similarity = self.sequence.truth[number], self.sequence.similarity[number]
            counts, known = (truth != hidden) & (not covered), given >= 0
            compared.append(TrackedFrame(truth[counts], given[known], similarity[np.ix_(counts, rows[known])]))
        return compared

    def seen(self, ids: list[NDArray[np.int64]]) -> Mapping[int, list[tuple[int, int]]]:
        """For each true person, the numbers of the frames in which a pose of them is left, each with the id it got."""
        seen: dict[int, list[tuple[int, int]]] = {}
        for n, (number, rows, given) in enumerate(zip(self.frames, self.rows, ids, strict=True)):
            of_row = dict(zip(rows.tolist(), given.tolist(), strict=True))
            for person, row in zip(
                self.sequence.truth[number].tolist(), self.sequence.found[number].tolist(), strict=True
            ):
                if row in of_row:
                    seen.setdefault(person, []).append((n, of_row[row]))
        return seen


def _smaller(poses: Poses, times: int) -> Poses:
    scale = np.float32(1 / times)
    return poses if times == 1 else replace(poses, keypoints=poses.keypoints * scale, boxes=poses.boxes * scale)


Regime = Callable[[RealSequence], Iterator[Video]]


def _strided(sequence: RealSequence, fps: float | None = None, step: int = 1) -> Iterator[Video]:
    step = step if fps is None else max(1, round(sequence.fps / fps))
    for phase in sorted({step * n // _PHASES for n in range(_PHASES)}):
        yield Video.of(sequence, step, phase)


def _dropped(sequence: RealSequence, step: int = 1) -> Iterator[Video]:
    for seed in range(_SEEDS):
        random, video = np.random.default_rng(seed), Video.of(sequence, step)
        yield replace(video, rows=[rows[random.random(len(rows)) >= _DROPPED] for rows in video.rows])


def _hidden(sequence: RealSequence, seconds: float) -> Iterator[Video]:
    """Everybody who is seen for long enough is hidden in the middle of that time: nobody finds them, and they do not
    count as missed."""
    video = Video.of(sequence)
    around = max(_FEWEST, round(_AROUND * sequence.fps))
    long = round(seconds * sequence.fps)
    seen = {person: [n for n, _ in there] for person, there in video.seen(video.rows).items()}
    fitting = [person for person, there in sorted(seen.items()) if len(there) >= long + 2 * around]
    for person in fitting[:_MOST_HIDDEN]:
        begin = seen[person][(len(seen[person]) - long) // 2]
        inside = (video.frames >= begin) & (video.frames < begin + long)
        before, after = (sum(n < begin for n in seen[person]), sum(n >= begin + long for n in seen[person]))
        if min(before, after) < around:
            continue
        rows = [
            np.setdiff1d(rows, _poses_of(sequence, n, person)) if hidden else rows
            for n, rows, hidden in zip(range(len(video)), video.rows, inside, strict=True)
        ]
        yield replace(video, rows=rows, hidden=np.where(inside, person, -1))


def _poses_of(sequence: RealSequence, number: int, person: int) -> NDArray[np.int64]:
    """The rows of the person's pose in a frame and of its duplicates."""
    of = sequence.truth[number] == person
    alike = (sequence.similarity[number][of] >= ALIKE).any(axis=0)
    alike[np.setdiff1d(sequence.found[number][~of], [-1])] = False
    return np.flatnonzero(alike)


def _covered(sequence: RealSequence, seconds: float) -> Iterator[Video]:
    """The camera is covered in the middle of the video: black frames without people."""
    video = Video.of(sequence)
    long = round(seconds * sequence.fps)
    if len(video) < long + 2 * max(_FEWEST, round(_AROUND * sequence.fps)):
        return
    begin = (len(video) - long) // 2
    inside = (video.frames >= begin) & (video.frames < begin + long)
    rows = [rows[:0] if dark else rows for rows, dark in zip(video.rows, inside, strict=True)]
    yield replace(video, rows=rows, covered=inside)


def _resized(sequence: RealSequence) -> Iterator[Video]:
    """Frames have half the size in the second third of the video."""
    video = Video.of(sequence)
    third = video.frames * 3 // len(video)
    yield replace(video, shrunk=np.where(third == 1, 2, 1))


def _jittered(sequence: RealSequence) -> Iterator[Video]:
    for seed in range(_CLOCKS):
        video = Video.of(sequence)
        noise = np.random.default_rng(seed).uniform(-_JITTER, _JITTER, len(video))
        yield replace(video, times=video.times + noise / sequence.fps)


REGIMES: dict[str, Regime] = {
    "all frames": _strided,
    "every third": partial(_strided, step=3),
    "about 3 fps": partial(_strided, fps=3.0),
    "about 1.8 fps": partial(_strided, fps=1.8),
    "a fifth dropped": _dropped,
    "a fifth dropped, every third": partial(_dropped, step=3),
    **{f"one person hidden for {n} s": partial(_hidden, seconds=n) for n in (1, 2, 4)},
    **{f"camera covered for {n} s": partial(_covered, seconds=n) for n in (1, 2, 4)},
    "frame size changed": _resized,
    "timestamps jittered": _jittered,
}
