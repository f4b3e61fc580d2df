"""The cost of serving: python -m tests.benchmarks serving [--json FILE]

JPEG in, JSON out, one network, one generated photo of 640x480. All contenders use the same functions
(peers/work.py), give the same answer, log no requests, and alternate; figures are medians over the rounds. The raw
loop is the work without a server: the faster of its two forms is the limit. It has no client, while servers share the
cores with the load generator, whose processor time is in the table too. The plain queue is the least that a server can
do: what Posewire takes beyond it is the price of batches, deadlines, fairness, limits and metrics.

The small network takes 30 % of the raw loop's time, so that serving shows. With ../shared there is also TinyPose on
the whole frame.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tests.benchmarks.load import Shot
from tests.benchmarks.peers.environment import ROOT, peer_python
from tests.benchmarks.peers.process import PeerProcess
from tests.benchmarks.peers.rounds import (
    BATCH,
    CPU,
    MEMORY,
    P50,
    P99,
    RATE,
    Contender,
    Figures,
    best_of,
    medians,
    ratio,
    take_turns,
)
from tests.benchmarks.report import Row, main, table
from tests.graphs import tiny_catalogue
from tests.pictures import astronaut, encoded, photo
from tests.servers import ServerProcess
from tests.shared import SHARED, weights_catalogue

_CROWDS = (16, 32)
"""Concurrent requests that saturate a server. The better result counts."""
_SECONDS = 1.0
"""Of a turn: short, as a spell in which the machine is slow must hit all contenders alike."""
_LITSERVE = "litserve==0.2.19"
_MAX_BATCH = 4  # as ours on a CPU

POSEWIRE, LITSERVE = "posewire", "LitServe, 2 workers"
PLAIN = "plain queue, 3 threads"
BARE = {form: f"bare FastAPI, {form} handler" for form in ("def", "async")}
RAW = {
    "processes": "raw loop, a process a core",
    "pipelined": "raw loop, pipelined threads",
    "alone": "raw loop, one thread",
}

Key = tuple[str, int]
"""A contender and its number of concurrent requests."""
Results = Mapping[Key, Sequence[Figures]]


@dataclass(frozen=True, slots=True)
class Task:
    """The workload. file: the photo's path. path: has a query if the photo's best person scores below the default."""

    catalogue: Path
    model: str
    file: Path
    path: str = "/pose"


def compare(task: Task, rounds: int) -> list[Row]:
    """Measure the table for one network, and the important ratios."""
    shot = Shot(task.file.read_bytes(), task.path)
    measures: dict[Key, Callable[[], Figures]] = {
        (RAW["alone"], 1): partial(_run_raw_loop, task, "alone"),
        **{(RAW[form], _CROWDS[0]): partial(_run_raw_loop, task, form) for form in ("processes", "pipelined")},
    }
    with ExitStack() as stack:
        quiet = {"log_level": "warning"}
        ours = stack.enter_context(ServerProcess("--model", task.model, catalogue=task.catalogue, environment=quiet))
        contenders = {POSEWIRE: stack.enter_context(Contender(ours, shot))}
        for form, name in BARE.items():
            contenders[name] = stack.enter_context(Contender(stack.enter_context(_bare(task, form)), shot))
        contenders[PLAIN] = stack.enter_context(Contender(stack.enter_context(_plain_queue(task)), shot))
        variant, contenders[LITSERVE] = best_of(stack, shot, _litserve_variants(task), _CROWDS[0])
        print(f"{task.model}: LitServe is fastest here with {variant}", file=sys.stderr)
        _check_same([contender.ask()["people"] for contender in contenders.values()])
        for name, contender in contenders.items():
            measures |= {(name, crowd): partial(contender.measure, crowd, _SECONDS) for crowd in (1, *_CROWDS)}
        results = take_turns(measures, rounds)
    best = _best(results, _CROWDS)
    kept = [key for key in results if key[1] == 1 or key in best.values()]
    rows: list[Row] = [
        {"network": task.model, "contender": name, "at once": crowd, **medians(results[name, crowd])}
        for name, crowd in sorted(kept, key=lambda key: key[1] > 1)
    ]
    return rows + [{"network": task.model, **row} for row in _ratios(results, best)]


def _bare(task: Task, form: str) -> PeerProcess:
    return PeerProcess(
        [sys.executable, "-m", "tests.benchmarks.peers.fastapi_server"], task.catalogue, task.model, form
    )


def _plain_queue(task: Task) -> PeerProcess:
    return PeerProcess([sys.executable, "-m", "tests.benchmarks.peers.plain_queue"], task.catalogue, task.model, 3)


def _litserve_variants(task: Task) -> dict[str, Callable[[], PeerProcess]]:
    """The settings that users can tune: how long batches wait, and the number of HTTP processes."""
    python = peer_python("litserve", _LITSERVE, shares=True)
    command = (python, "-m", "tests.benchmarks.peers.litserve_server")
    return {
        f"batch_timeout {wait} ms and {servers} API server(s)": partial(
            PeerProcess, command, task.catalogue, task.model, _MAX_BATCH, wait, servers
        )
        for servers in (1, 2)
        for wait in (0, 1, 5, 20)
    }


def _check_same(answers: Sequence[list[dict[str, object]]]) -> None:
    """Raise RuntimeError unless all contenders found the same person, keypoints within a tenth of a pixel."""
    points = [np.array([person["keypoints"] for person in people]) for people in answers]
    if not all(p.shape == points[0].shape and p.size and np.abs(p - points[0]).max() < 0.1 for p in points):
        raise RuntimeError(f"the contenders answer differently: {answers}")


def _run_raw_loop(task: Task, form: str) -> Figures:
    command = [sys.executable, "-m", "tests.benchmarks.peers.raw_loop"]
    command += [str(task.catalogue), task.model, str(task.file), str(_SECONDS), form]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    measured = json.loads(done.stdout)
    latencies = np.array(measured["latencies"]) * 1e3
    return {
        RATE: len(latencies) / measured["wall"],
        P50: float(np.percentile(latencies, 50)),
        P99: float(np.percentile(latencies, 99)),
        CPU: 1e3 * measured["cpu"] / len(latencies),
        BATCH: measured["batch"],
        MEMORY: measured["memory_mb"],
    }


def _best(results: Results, crowds: Sequence[int]) -> dict[str, Key]:
    """Return the number of clients, of `crowds`, with the most responses per second, for each contender."""
    best: dict[str, Key] = {}
    for key in results:
        if key[1] in crowds:
            best[key[0]] = max(best.get(key[0], key), key, key=lambda k: medians(results[k])[RATE])
    return best


def _ratios(results: Results, best: Mapping[str, Key]) -> list[Row]:
    full = {name: results[key] for name, key in best.items()}
    ours, alone = full[POSEWIRE], results[POSEWIRE, 1]
    limit = max((RAW["processes"], RAW["pipelined"]), key=lambda name: medians(full[name])[RATE])
    bare = min(BARE.values(), key=lambda name: medians(results[name, 1])[P50])
    return [
        {"ratio": f"{RATE}, {POSEWIRE} / {limit}", "value": ratio(ours, full[limit], RATE), "goal": ">= 0.88"},
        {"ratio": f"{RATE}, {POSEWIRE} / {PLAIN}", "value": ratio(ours, full[PLAIN], RATE), "goal": ">= 0.95"},
        {"ratio": f"{CPU}, {POSEWIRE} / {PLAIN}", "value": ratio(ours, full[PLAIN], CPU), "goal": "<= 1.05"},
        {
            "ratio": f"{P50} at 1, {POSEWIRE} / {PLAIN}",
            "value": ratio(alone, results[PLAIN, 1], P50),
            "goal": "<= 1.05",
        },
        {"ratio": f"{RATE}, {POSEWIRE} / {LITSERVE}", "value": ratio(ours, full[LITSERVE], RATE), "goal": ">= 1.4"},
        *(
            {"ratio": f"{RATE}, {POSEWIRE} / {name}", "value": ratio(ours, full[name], RATE), "goal": ""}
            for name in BARE.values()
        ),
        {"ratio": f"{CPU}, {POSEWIRE} / {limit}", "value": ratio(ours, full[limit], CPU), "goal": ""},
        {"ratio": f"{P50} at 1, {POSEWIRE} / {bare}", "value": ratio(alone, results[bare, 1], P50), "goal": "<= 1"},
    ]


def _show(rows: list[Row]) -> str:
    figures, ratios = ([row for row in rows if ("ratio" in row) is wanted] for wanted in (False, True))
    return f"{table(figures)}\n\n{table(ratios)}"


def run() -> list[Row]:
    """The small network, and TinyPose if its weights are available."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "photo.jpg"
        file.write_bytes(encoded(photo(), quality=90))
        rows = compare(Task(tiny_catalogue(folder), "tiny", file), rounds=8)
        if SHARED.is_dir():
            portrait = folder / "portrait.jpg"  # a trained network only answers for people
            portrait.write_bytes(encoded(astronaut().resize((640, 480)), quality=90))
            rows += compare(Task(weights_catalogue(folder), "tinypose-whole", portrait, "/pose?min_score=0"), rounds=6)
    return rows


if __name__ == "__main__":
    main(run, _show)
