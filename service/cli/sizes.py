"""The `--size` option: the size of a network's input."""

from __future__ import annotations

import re

import click


class InputSize(click.ParamType[tuple[int, int]]):
    """A height and a width, such as 256x192."""

    name = "HEIGHTxWIDTH"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(height, width)."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
        if found is None:
            self.fail(f"{value!r} is not a height and a width such as 256x192", param, ctx)
        return int(found[1]), int(found[2])
