"""Posewire beside MediaPipe: python -m tests.benchmarks mediapipe_peer [--json FILE]

Images/s of one photo with one person (scikit-image's astronaut as JPEG), 8 requests at once, alternating, medians. The
same two graphs: a FastAPI handler that calls MediaPipe's PoseLandmarker, against `posewire serve`.
blazepose-single is the same work, one pass of the detector over the frame; blazepose adds its tiles.

The goal is for a CPU with AMX. Where fp32 has to do, the two graphs are 1.48 GFLOP: 15 ms of a core that multiplies
matrices at 99 GFLOP/s (an EPYC's sgemm), 17 ms as they run, of the 21 ms that three times MediaPipe's rate would leave
each image on two cores. Decoding the JPEG, cropping, reading the outputs and HTTP take 5 ms.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov

from tests.benchmarks.load import Shot
from tests.benchmarks.peers.environment import peer_python
from tests.benchmarks.peers.process import PeerProcess
from tests.benchmarks.peers.rounds import RATE, Contender, Server, medians, ratio, take_turns
from tests.benchmarks.report import Row, main, table
from tests.pictures import astronaut, encoded
from tests.servers import ServerProcess

_CONCURRENCY = 8
_ROUNDS = 3
_SECONDS = 5.0
_REQUIREMENTS = ("mediapipe==0.10.21", "fastapi", "uvicorn[standard]")

ONE, EACH = "MediaPipe, one landmarker", "MediaPipe, a landmarker a thread"
SINGLE, TILED = "posewire, blazepose-single", "posewire, blazepose"

_GOAL = 3.0
_NEAR_PX = 5.0
"""Largest mean distance to MediaPipe's visible keypoints. MediaPipe resamples crops differently."""


def run() -> list[Row]:
    """Measure all four servers, and their ratios."""
    shot = Shot(encoded(astronaut(), quality=90))
    python = peer_python("mediapipe", *_REQUIREMENTS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = (python, Path(__file__).parent / "peers/mediapipe_server.py")
        servers: dict[str, Server] = {
            ONE: PeerProcess(command, "one", folder),
            EACH: PeerProcess(command, "each", folder),
            SINGLE: ServerProcess("--model", "blazepose-single"),
            TILED: ServerProcess("--model", "blazepose"),
        }
        contenders: dict[str, Contender] = {}
        for name, server in servers.items():
            stack.enter_context(server)
            contenders[name] = stack.enter_context(Contender(server, shot))
        _check_same_person(contenders)
        measures = {name: partial(contender.measure, _CONCURRENCY, _SECONDS) for name, contender in contenders.items()}
        results = take_turns(measures, _ROUNDS)
    rows: list[Row] = [{"contender": name, "at once": _CONCURRENCY, **medians(results[name])} for name in results]
    for ours in (SINGLE, TILED):
        for theirs in (ONE, EACH):
            goal = f">= {_GOAL:g} with AMX" if theirs == ONE and ours == SINGLE else ""
            rows.append(
                {
                    "ratio": f"{RATE}, {ours} / {theirs}",
                    "value": ratio(results[ours], results[theirs], RATE),
                    "goal": goal,
                }
            )
    return rows


def _check_same_person(contenders: Mapping[str, Contender]) -> None:
    """Raise RuntimeError unless all found the astronaut at the same position."""
    people = {name: np.array(contender.ask()["people"][0]["keypoints"]) for name, contender in contenders.items()}
    seen = people[ONE][:, 2] > 0.5
    apart = {
        name: float(np.linalg.norm(points[seen, :2] - people[ONE][seen, :2], axis=1).mean())
        for name, points in people.items()
    }
    if max(apart.values()) > _NEAR_PX:
        raise RuntimeError(f"the keypoints are so many pixels from those of {ONE}: {apart}")


def _show(rows: list[Row]) -> str:
    figures, ratios = ([row for row in rows if ("ratio" in row) is wanted] for wanted in (False, True))
    capabilities = ", ".join(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return f"the CPU computes in {capabilities}\n{table(figures)}\n\n{table(ratios)}"


if __name__ == "__main__":
    main(run, _show)
