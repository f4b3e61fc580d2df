"""The `--model` option: fetches the models that a command uses before it starts. `auto` is the default model."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

import click

from engines.catalogue import Catalogue, choose_default
from engines.catalogue.fetch.sources import DownloadProgress

MODEL_HELP = "Model to use; several, separated by commas, for serve. auto takes the best one available."


def choose(catalogue: Catalogue, names: Sequence[str]) -> tuple[list[str], str]:
    """Resolve and fetch the models in `names`. Also returns why "auto" chose its model; "" if no name is "auto".

    Prints a line for each model that "auto" tries to fetch.
    """
    from service.inference.model_registry import servable

    why = ""
    chosen = []
    for name in names:
        if name == "auto":
            choice = choose_default(catalogue, progress=fetch_progress(), say=partial(click.echo, err=True))
            name, why = choice.model.name, choice.why
        chosen.append(servable(catalogue[name]).name)
        for part in catalogue.parts(name):
            part.fetch(progress=fetch_progress())
    return chosen, why


def fetch_progress() -> DownloadProgress:
    """Return a callback that shows the progress of a download on a terminal, at most ten times a second."""
    last = 0.0

    def show(done: int, total: int | None, label: str) -> None:
        nonlocal last
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - last < 0.1 and done != total):
            return
        last = now
        share = f"{100 * done / total:3.0f} % of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
        click.echo(f"\r{label}: {share}\x1b[K", nl=done == total, err=True)

    return show
