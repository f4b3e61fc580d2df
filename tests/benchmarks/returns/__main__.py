"""People who leave the picture and come back: python -m tests.benchmarks returns [--tune] [--scenes N]
    [--embedder NAME] [--json FILE]

Needs ../shared. Real people are cut out of the tracking sequences, PoseTrack and COCO, with their poses. They walk
through real places as they really walked, several at once, at 8 frames a second; the light changes from one border to
the other. In every scene somebody leaves and comes back after 2 to 28 s, in other pictures than before if there are
any, through the same border or the other; somebody else leaves for good; and a stranger enters meanwhile. Poses are
those of the sequences' networks or annotations, with an error, and without what is hidden.

--embedder adds a tracker, without flow, that gets the embeddings of this model of the catalogue.
--tune shows scenes of other people, on which constants may be tuned. returns: people who came back with their id.
mistaken: people who came back, and strangers, with an id that somebody else had.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engines.catalogue import load
from engines.crops.runners import CpuCropRunner
from engines.families import open_embedder
from engines.poses import Floats, Frame
from engines.runtimes import open_runtime
from engines.skeletons import COCO_17
from service.evaluation import Identity, TrackedFrame, TrackedSequence, identity
from service.tracking import PoseTracker, TrackerConfig
from service.tracking.embeddings import EmbeddingSpace
from tests.benchmarks.report import Row, machine, table
from tests.benchmarks.returns.performers import Performer, backgrounds, coco_performers, tracked_performers
from tests.benchmarks.returns.scenes import ReturnScene, SceneFrame, make_scene
from tests.shared import SHARED

SCENES = 24
_RETURNING, _STRANGER = 0, 2
_COCO_EVERY = 3
"""Every third scene is about a person of COCO."""
_HELD = 3
"""Frames for which somebody must have had an id."""

CONFIGS = {
    "posewire": (TrackerConfig(), True),
    "posewire, without flow": (TrackerConfig(use_flow=False), True),
    "posewire, without pixels": (TrackerConfig(), False),
}


Embed = Callable[[Frame, Floats], Floats]
"""Embeddings (M, D) of the people in boxes (M, 4) of a frame."""


class ReturnTracker(NamedTuple):
    """A tracker. embed: gives it embeddings, None for none."""

    name: str
    config: TrackerConfig
    pixels: bool
    embed: Embed | None = None


def with_embedder(name: str) -> ReturnTracker:
    """A tracker with the embeddings of a model of the catalogue."""
    model = load()[name]
    family = open_embedder(model)
    runtime = open_runtime(model.fetch(), pixels=model.input, outputs=family.outputs, max_batch=8)
    runner = CpuCropRunner(runtime, model.input)
    size = family.size({spec.name: spec.shape for spec in runtime.spec.outputs})

    def embed(frame: Frame, boxes: Floats) -> Floats:
        regions = family.regions(boxes)
        return family.decode(runner([frame] * len(regions), regions).outputs, regions)

    space = EmbeddingSpace(name, size, family.middle, family.slope)
    return ReturnTracker(
        f"posewire, without flow, with {name}", TrackerConfig(use_flow=False, embedder=space), True, embed
    )


def make_scenes(*, tune: bool, count: int = SCENES) -> Iterator[ReturnScene]:
    """Make up scenes. The people of the scenes for tuning are in no others."""
    first = 0 if tune else 1
    tracked, single = tracked_performers()[first::2], coco_performers()[first::2]
    places = backgrounds()
    for n in range(count):
        from_coco = n % _COCO_EVERY == _COCO_EVERY - 1
        people: Sequence[Performer] = single if from_coco else tracked
        yield make_scene([*tracked, *single], people[n % len(people)], places[n % len(places)], 2 * n + first)


@dataclass(eq=False)
class Watched:
    """A tracker that watches a scene, and the ids that it gave. held: the ids of each role, in the order of time."""

    tracker: PoseTracker
    pixels: bool
    embed: Embed | None = None
    held: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    frames: list[TrackedFrame] = field(default_factory=list)

    def update(self, frame: SceneFrame) -> None:
        """Track the next frame."""
        poses = self.tracker.update(frame.poses, frame.pixels if self.pixels else None, frame.seconds)
        if self.embed is not None and len(boxes := self.tracker.look_at()):
            self.tracker.embed(self.embed(frame.pixels, boxes))
        ids = np.full(len(poses), -1) if poses.ids is None else poses.ids
        for role, number in zip(frame.roles.tolist(), ids.tolist(), strict=True):
            self.held[role].append((frame.seconds, number))
        known = ids >= 0
        self.frames.append(TrackedFrame(frame.roles, ids[known], np.eye(len(ids))[:, known]))

    def main_id(self, role: int, begin: float, end: float) -> int:
        """The id that a role had for the longest part of a time; -1 for none."""
        ids = Counter(number for seconds, number in self.held[role] if begin <= seconds < end and number >= 0)
        return ids.most_common(1)[0][0] if ids else -1

    def of_another(self, number: int, role: int, before: float) -> bool:
        """Whether another role had the id earlier."""
        return number >= 0 and any(
            sum(given == number and seconds < before for seconds, given in there) >= _HELD
            for other, there in self.held.items()
            if other != role
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts over scenes."""

    returns: int
    recognised: int
    strangers: int
    mistaken_returns: int
    mistaken_strangers: int
    identity: Identity

    def row(self, name: str) -> Row:
        """The counts as columns."""
        return {
            "tracker": name,
            "returns": f"{self.recognised}/{self.returns}",
            "returned, mistaken": self.mistaken_returns,
            "strangers, mistaken": f"{self.mistaken_strangers}/{self.strangers}",
            "IDF1": round(100 * self.identity.idf1, 1),
        }


def judge(scenes: Sequence[ReturnScene], watched: Sequence[Watched]) -> Outcome:
    """Count what a tracker made of the scenes."""
    recognised = mistaken_returns = mistaken_strangers = 0
    for scene, one in zip(scenes, watched, strict=True):
        before, after = scene.roles[_RETURNING].visits
        entry = scene.roles[_STRANGER].visits[0]
        old = one.main_id(_RETURNING, before.begin, before.end)
        new = one.main_id(_RETURNING, after.begin, after.end)
        recognised += old == new >= 0
        mistaken_returns += old != new and one.of_another(new, _RETURNING, after.begin)
        theirs = one.main_id(_STRANGER, entry.begin, entry.end)
        mistaken_strangers += one.of_another(theirs, _STRANGER, entry.begin)
    sequences: list[TrackedSequence] = [one.frames for one in watched]
    count = len(scenes)
    return Outcome(count, recognised, count, mistaken_returns, mistaken_strangers, identity(sequences))


def watch(scene: ReturnScene, contenders: Sequence[ReturnTracker]) -> list[Watched]:
    """Show a scene to several trackers."""
    watching = [Watched(PoseTracker(COCO_17, config), pixels, embed) for _, config, pixels, embed in contenders]
    for frame in scene.frames():
        for one in watching:
            one.update(frame)
    return watching


def run(*, tune: bool, count: int = SCENES, names: Sequence[str] = tuple(CONFIGS), embedder: str = "") -> list[Row]:
    """A row per tracker."""
    contenders = [ReturnTracker(name, *CONFIGS[name]) for name in names]
    if embedder:
        contenders.append(with_embedder(embedder))
    scenes = list(make_scenes(tune=tune, count=count))
    watched = []
    for n, scene in enumerate(scenes, 1):
        watched.append(watch(scene, contenders))
        print(f"scene {n} of {len(scenes)}", file=sys.stderr, flush=True)
    return [judge(scenes, [one[n] for one in watched]).row(each.name) for n, each in enumerate(contenders)]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="scenes of other people, for tuning")
    parser.add_argument("--scenes", type=int, default=SCENES, metavar="N")
    parser.add_argument("--embedder", default="", metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    if not (SHARED / "data/coco").is_dir():
        print("this needs the real data in ../shared", file=sys.stderr)
        sys.exit(2)
    rows = run(tune=arguments.tune, count=arguments.scenes, embedder=arguments.embedder)
    print(machine())
    print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
