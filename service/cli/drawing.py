"""The options of commands that draw people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option("--boxes", is_flag=True, help="Draw everybody's box."),
    click.option("--ids", is_flag=True, help="Write everybody's id; without tracking, the place in the list."),
    click.option("--labels", is_flag=True, help="Write everybody's score."),
    click.option(
        "--colours",
        type=click.Choice(["auto", "side", "identity"]),
        default="auto",
        show_default=True,
        help="What the colours of limbs tell apart.",
    ),
    click.option("--blur", type=click.Choice(["faces"]), help="Blur all faces of people who are found."),
)


def drawing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command: `boxes`, `ids`, `labels`, `colours` and `blur`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
