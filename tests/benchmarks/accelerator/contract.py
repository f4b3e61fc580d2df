"""The contract of runtimes and the tests of devices, run on this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.report import Row

_ROOT = Path(__file__).parents[3]


def hold(chosen: str, seconds: float) -> list[Row]:
    """The number of passed tests of each kind. chosen: as pytest's -k."""
    command = [sys.executable, "-m", "pytest", "tests/contract", "tests/engines/runtimes", "-k", chosen]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, encoding="utf-8", timeout=seconds, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    row: Row = {
        "part": "contract",
        "what": f"pytest -k '{chosen}'",
        "way": last if done.returncode else "holds",
        **counts,
    }
    if broken := [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]:
        row["broken"] = broken
    return [row]
