"""Gain of huge pages: python -m tests.benchmarks huge_pages [--json FILE]

Processor time of one inference on one core, in two processes that take turns: one has moved its memory onto huge pages
(`service.process.memory.use_huge_pages`), one has not. The networks are those of BlazePose, and TinyPose if there is
../shared.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from engines.catalogue.models import load
from engines.runtimes import open_runtime
from service.process.memory import use_huge_pages
from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.shared import SHARED, weights_catalogue

_SECONDS = 0.5  # of a turn
_ROUNDS = 24
_GAINS = "tinypose"


def _serve(pipe: Connection, names: Sequence[str], huge: bool) -> None:
    """Measure every network each time that the pipe says True, in seconds of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = load([weights_catalogue(Path(folder))])
        models = [catalogue[name] for name in names]
        runtimes = [open_runtime(m.fetch(), precision="fp32", max_batch=1, pixels=m.input, threads=1) for m in models]
    feeds = [{i.name: np.zeros((1, *i.shape), i.dtype) for i in runtime.spec.inputs} for runtime in runtimes]
    for runtime, image in zip(runtimes, feeds, strict=True):
        runtime.run(image)
    if huge:
        use_huge_pages()
    pipe.send([])
    while pipe.recv():
        took = []
        for runtime, image in zip(runtimes, feeds, strict=True):
            count, stop, started = 0, time.perf_counter() + _SECONDS, time.process_time()
            while not count or time.perf_counter() < stop:
                runtime.run(image)
                count += 1
            took.append((time.process_time() - started) / count)
        pipe.send(took)


def run() -> list[Row]:
    """A row for each network, followed by the goal."""
    names = ["blazepose-detector", "blazepose", *([_GAINS] if SHARED.is_dir() else [])]
    context = multiprocessing.get_context("spawn")
    pipes: dict[bool, Connection] = {}
    for huge in (False, True):
        pipes[huge], theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, names, huge), daemon=True).start()
        pipes[huge].recv()
    took: dict[bool, list[list[float]]] = {False: [], True: []}
    for turn in range(_ROUNDS):
        for huge in (bool(turn % 2), not turn % 2):
            pipes[huge].send(True)
            took[huge].append(pipes[huge].recv())
    for pipe in pipes.values():
        pipe.send(False)
    small, huge_pages = (1e3 * np.array(took[huge]) for huge in (False, True))
    ratios = dict(zip(names, np.median(huge_pages / small, axis=0), strict=True))
    rows: list[Row] = [
        {"network": name, "CPU ms on small pages": round(float(a), 2), "on huge pages": round(float(b), 2)}
        | {"ratio, median of turns": round(float(ratios[name]), 3)}
        for name, a, b in zip(names, np.median(small, axis=0), np.median(huge_pages, axis=0), strict=True)
    ]
    goals = [goal(f"{_GAINS} on huge pages / on small pages", ratios[_GAINS], "<", 0.97)] if _GAINS in ratios else []
    return [*rows, *goals]


if __name__ == "__main__":
    if not Path("/sys/kernel/mm/transparent_hugepage/enabled").is_file():
        print("this kernel has no huge pages", file=sys.stderr)
        sys.exit(2)
    main(run, show)
