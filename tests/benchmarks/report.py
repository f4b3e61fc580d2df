"""Reporting the results of a benchmark: a table for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> str:
    """Format the rows as aligned columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *[[str(row.get(column, "")) for column in columns] for row in rows]]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def machine() -> str:
    """The processor, and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next(
            (
                line.split(":", 1)[1].strip()
                for line in info.read_text(encoding="utf-8").splitlines()
                if "model name" in line
            ),
            model,
        )
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def main(run: Callable[[], list[Row]], show: Callable[[list[Row]], str] = table) -> None:
    """Run a benchmark from the command line; --json FILE also writes its rows."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    target = parser.parse_args().json
    rows = run()
    print(machine())
    print(show(rows))
    if target is not None:
        target.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")
