"""Duration of commands that only read information: python -m tests.benchmarks starts [--json FILE]

From the start of the process to its end, medians of 10, the commands in turn. The second build is of SimpleBaseline-R50
from a checkpoint (136 MB) and its plan, which the benchmark has built before (minutes; needs torch and TensorRT-RTX).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.benchmarks.report import Row, main

_ROUNDS = 10
_CHECKPOINT = "pose_resnet_50_256x192.pth"
_BUILD = ("build", "simple-baseline-r50", "--checkpoint", _CHECKPOINT, "--detector", "none", "--precision", "fp16")
_PLAN = ("--max-batch", "2")


def run() -> list[Row]:
    """A row per command."""
    commands: dict[str, tuple[str, ...]] = {"posewire --help": ("--help",), "posewire models": ("models",)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if find_spec("torch") is not None and find_spec("tensorrt_rtx") is not None:
            _save_checkpoint(folder / _CHECKPOINT)
            _seconds((*_BUILD, *_PLAN), folder)
            commands["posewire build, the second time"] = (*_BUILD, *_PLAN)
        took: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(_ROUNDS):
            for what, command in commands.items():
                took[what].append(_seconds(command, folder))
    return [
        {"command": what, "median s": f"{median(times):.2f}", "slowest s": f"{max(times):.2f}"}
        for what, times in took.items()
    ]


def _save_checkpoint(path: Path) -> None:
    import torch

    from engines.networks import build_network
    from tests.engines.networks.recipe import fill

    with torch.device("meta"):
        network = build_network("simple-baseline-r50")
    torch.save(fill(network, gain=0.5).state_dict(), path)


def _seconds(command: tuple[str, ...], folder: Path) -> float:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("POSEWIRE_")}
    variables |= {"POSEWIRE_MODELS": str(folder / "models"), "PYTHONPATH": str(Path(__file__).parents[2])}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "service", *command], cwd=folder, env=variables, capture_output=True, check=True
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main(run)
