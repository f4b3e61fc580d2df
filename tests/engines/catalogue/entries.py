"""Entries of catalogue files."""

from __future__ import annotations

INPUT = "input = { width = 192, height = 256 }"


def estimator(name: str, source: str, *more: str) -> str:
    """A valid entry, followed by the lines `more`."""
    lines = [f"[models.{name}]", 'role = "estimator"', 'family = "simcc"', 'skeleton = "coco-17"', "commercial = true"]
    return "\n".join([*lines, f"source = {source}", INPUT, *more, ""])
