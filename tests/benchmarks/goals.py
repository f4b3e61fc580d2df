"""Comparing measurements with goals."""

from __future__ import annotations

from typing import Literal

from tests.benchmarks.report import Row, table


def goal(name: str, measured: float, sign: Literal["<", ">", "="], bound: float) -> Row:
    """A row that says whether a goal is reached."""
    holds = {"<": measured < bound, ">": measured > bound, "=": measured == bound}[sign]
    return {"goal": name, "measured": round(float(measured), 3), "promised": f"{sign} {bound:g}", "holds": bool(holds)}


def show(rows: list[Row]) -> str:
    """Format the measurements and the goals as two tables."""
    return "\n\n".join(table([row for row in rows if ("goal" in row) == goals]) for goals in (False, True))
