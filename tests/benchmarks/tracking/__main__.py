"""Identities on real video: python -m tests.benchmarks tracking [--ours | --peers] [--regime TEXT] [--json F]

Compares this project's tracker with others on PoseTrack and ../shared/data/tracking, where they are there, and on the
sequences in MOT's layout that POSEWIRE_TRACKING names (folders, separated as in PATH). All get the same poses, scored
from 0.2: RTMDet-nano 640 + TinyPose. The figures are pooled over the sequences; those of all frames stand for each
sequence, too. A peer's figures in a regime are those of the setting, of a small grid, that has the best IDF1 in that
very regime on this very data, which favours peers; this project's tracker has its defaults everywhere. `posewire` gets
pixels, and so does BoT-SORT with camera motion compensation. Times are those of one processor core.

strangers: ids of somebody who has it for 5 frames or more that go to another person for 5 frames or more. returns: of
people who are seen again after 0.5 s or more, those who get their id of before. mistaken: those who get an id that
somebody else had.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.evaluation import identity
from tests.benchmarks.report import Row, machine, table
from tests.benchmarks.tracking.contenders import Contender, Settings, ours, peers
from tests.benchmarks.tracking.figures import Figures, figures
from tests.benchmarks.tracking.regimes import REGIMES, Video
from tests.benchmarks.tracking.sequences import ALIKE, RealSequence, read_all


def measure(contender: Contender, videos: Sequence[Video]) -> tuple[Settings, list[Figures]]:
    """Return the setting with the best IDF1 over all videos, and its figures of each."""
    tracked = contender.track(contender.grid, videos)
    idf1 = [
        identity([video.compare(one.ids) for video, one in zip(videos, each, strict=True)], ALIKE).idf1
        for each in tracked
    ]
    best = int(np.argmax(idf1))
    pairs = zip(videos, tracked[best], strict=True)
    return contender.grid[best], [figures(video, one.ids, one.seconds) for video, one in pairs]


def pooled(each: Sequence[Figures]) -> Figures:
    """The figures of all videos together."""
    return sum(each, start=Figures())


def run(sequences: Sequence[RealSequence], regimes: Sequence[str], contenders: Sequence[Contender]) -> list[Row]:
    """A row per regime and tracker: the pooled figures, and those of each sequence."""
    rows = []
    for regime in regimes:
        videos = [video for sequence in sequences for video in REGIMES[regime](sequence)]
        for contender in contenders if videos else ():
            settings, each = measure(contender, videos)
            names = [video.sequence.name for video in videos]
            of = {
                name: pooled([one for one, its in zip(each, names, strict=True) if its == name])
                for name in dict.fromkeys(names)
            }
            about = {"regime": regime, "videos": len(videos), "tracker": contender.name}
            rows.append({**about, "sequence": "pooled", **pooled(each).row(), "settings": str(dict(settings))})
            rows += [{**about, "sequence": name, **its.row()} for name, its in of.items()]
            print(f"{regime}: {contender.name}: IDF1 {rows[-1 - len(of)]['IDF1']}", file=sys.stderr, flush=True)
    return rows


def show(rows: Sequence[Row]) -> str:
    """The pooled figures of each regime, and the figures of each sequence in the first."""
    hidden = {"settings", "regime", "sequence"}
    parts = []
    for regime in dict.fromkeys(row["regime"] for row in rows):
        for sequence in dict.fromkeys(row["sequence"] for row in rows):
            chosen = [row for row in rows if (row["regime"], row["sequence"]) == (regime, sequence)]
            if chosen and (sequence == "pooled" or regime == next(iter(REGIMES))):
                lines = [{key: value for key, value in row.items() if key not in hidden} for row in chosen]
                parts.append(f"{regime}, {sequence}\n{table(lines)}")
    return "\n\n".join(parts)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ours", action="store_true", help="only this project's tracker")
    which.add_argument("--peers", action="store_true", help="only the others")
    parser.add_argument("--sequence", action="append", metavar="NAME", help="only this sequence; repeatable")
    parser.add_argument(
        "--regime", action="append", metavar="TEXT", help="only regimes whose name has this; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    sequences = [one for one in read_all() if arguments.sequence is None or one.name in arguments.sequence]
    if not sequences:
        print("there are no sequences: ../shared is missing, and POSEWIRE_TRACKING names none", file=sys.stderr)
        sys.exit(2)
    regimes = [name for name in REGIMES if arguments.regime is None or any(text in name for text in arguments.regime)]
    contenders = [*([] if arguments.peers else ours()), *([] if arguments.ours else peers())]
    rows = run(sequences, regimes, contenders)
    print(machine())
    print(show(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
