"""The time of decoding people from a network's outputs: python -m tests.benchmarks grouping [--json FILE]

Milliseconds of processor time on one core, the median of many, for scenes that are rendered as the papers describe them
and, if ../shared is available, for the scenes of the goldens.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from engines.families.associative_embedding import AssociativeEmbedding
from engines.families.base import OneStageModel
from engines.families.part_affinity import PartAffinity
from engines.families.personlab import PersonLab
from engines.families.rtmo import RTMO
from engines.families.tag_grouping import GroupingOptions, adjust, candidates, match, refine
from engines.families.yolo_pose import YOLOPose
from engines.inputs import PixelInput
from engines.poses import Floats
from engines.skeletons import COCO_17
from tests import drawn
from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.drawn import Outputs
from tests.people import standing
from tests.shared import SHARED

_TIMES = 60
_NOISE = 0.01


def crowd(people: int, width: int, height: int) -> list[Floats]:
    """People in two or three rows, as large as possible."""
    rows = 2 if people <= 20 else 3
    columns = -(-people // rows)
    tall = 0.9 * height / rows
    return [
        standing((n % columns + 0.5) * width / columns, (n // columns + 0.5) * height / rows, tall)
        for n in range(people)
    ]


def milliseconds(work: Callable[[], object]) -> float:
    """The median."""
    work()
    taken = []
    for _ in range(_TIMES):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1000 * float(np.median(taken))


def cases() -> list[tuple[str, int, OneStageModel, Outputs]]:
    """Families with crowds."""
    personlab = PersonLab(PixelInput(481, 641), heatmaps="heat", short_offsets="short", mid_offsets="mid")
    made: list[tuple[str, int, OneStageModel, Outputs]] = []
    for n in (1, 20, 30):
        square, wide = crowd(n, 512, 512), crowd(n, 456, 256)
        tags = drawn.associative_embedding(512, 512, *square)
        made.append(("associative_embedding 512", n, AssociativeEmbedding(PixelInput(512, 512), COCO_17), tags))
        limbs = drawn.part_affinity(456, 256, *wide)
        made.append(("part_affinity 456x256", n, PartAffinity(PixelInput(256, 456)), limbs))
        made.append(("personlab 641x481", n, personlab, drawn.personlab(641, 481, *crowd(n, 641, 481))))
        made.append(("rtmo 640", n, RTMO(PixelInput(640, 640), COCO_17), drawn.rtmo(*crowd(n, 640, 640))))
        made.append(("yolo_pose 640", n, YOLOPose(PixelInput(640, 640), COCO_17), drawn.yolo_pose(*crowd(n, 640, 640))))
    return made


def noisy(outputs: Outputs) -> Outputs:
    """Add noise, because outputs of networks are never exactly zero."""
    rng = np.random.default_rng(0)
    return {name: (maps + rng.normal(0, _NOISE, maps.shape)).astype(np.float32) for name, maps in outputs.items()}


def golden() -> float | None:
    """The grouping of the 30 people in HigherHRNet's goldens, alone."""
    path = SHARED / "goldens/decoders/ae_group_j17_p30_t2.npz"
    if not path.is_file():
        return None
    heatmaps, tags = (np.load(path)[name][0] for name in ("heatmaps", "tags"))
    how = GroupingOptions()

    def work() -> Floats:
        people = match(candidates(heatmaps, tags, how), range(17), how)
        return refine(adjust(people, heatmaps), heatmaps, tags)

    return milliseconds(work)


def run() -> list[Row]:
    """Measure every case."""
    cv2.setNumThreads(1)
    rows: list[Row] = []
    for name, people, family, outputs in cases():
        maps = noisy(outputs) if name.startswith(("associative", "part")) else outputs
        region = family.region(family.pixels.width, family.pixels.height)
        found = len(family.decode(maps, [region])[0])
        taken = milliseconds(lambda family=family, maps=maps, region=region: family.decode(maps, [region]))  # type: ignore[misc]
        rows.append({"family": name, "people": people, "found": found, "ms": round(taken, 2)})
    measured = {(str(row["family"]).split()[0], int(row["people"])): float(row["ms"]) for row in rows}
    alone = golden()
    if alone is not None:
        rows.append({"family": "goldens' scene, grouping alone", "people": 30, "found": 30, "ms": round(alone, 2)})
    return [
        *rows,
        goal("30 people of HigherHRNet, ms", alone or measured["associative_embedding", 30], "<", 15),
        goal("20 people by part affinity, ms", measured["part_affinity", 20], "<", 10),
    ]


if __name__ == "__main__":
    main(run, show)
