"""`posewire image`: estimate the poses in image files."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.catalogue import load
from engines.files import shown
from service.cli.drawing import drawing_options
from service.cli.model_option import MODEL_HELP, choose
from service.cli.output import progress_bar, write_out

if TYPE_CHECKING:
    from service.media.draw import Background, DrawOptions
    from service.media.palette import Colouring


@click.command(short_help="Find the people in images and print them.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="auto", show_default=True, help=MODEL_HELP)
@click.option(
    "--render", type=click.Path(path_type=Path), help="Draw the skeletons: a picture, or a folder for several."
)
@drawing_options
@click.option(
    "--background",
    type=click.Choice(["picture", "black", "none"]),
    default="picture",
    show_default=True,
    help="What to draw on; none is transparent, for .png only.",
)
@click.option(
    "--format", "style", type=click.Choice(["json", "coco", "openpose", "csv"]), default="json", show_default=True
)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--max-people", type=click.IntRange(1), default=50, show_default=True)
def image(
    files: Sequence[Path],
    model: str,
    render: Path | None,
    boxes: bool,
    ids: bool,
    labels: bool,
    colours: Colouring,
    blur: str | None,
    background: Background,
    style: str,
    min_score: float,
    max_people: int,
) -> None:
    """Estimate the poses in image FILES, all in one batch, and print them."""
    from service.media.faces import UnseenHeadsError
    from service.offline.images import drawings, estimate_files, write_results

    look: DrawOptions = {"boxes": boxes, "ids": ids, "labels": labels, "colours": colours, "background": background}
    try:
        pictures = [] if render is None else drawings(files, render)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if blur and not pictures:
        raise click.UsageError("--blur is for pictures; name one with --render")
    if background == "none" and any(picture.suffix.lower() != ".png" for picture in pictures):
        raise click.UsageError("--background none: only a .png can be transparent")
    catalogue = load()
    [name], why = choose(catalogue, (model,))
    with progress_bar(f"{len(files)} images", len(files)) as advance:
        estimating = estimate_files(
            files,
            catalogue,
            name,
            advance=advance,
            min_score=min_score,
            max_people=max_people,
            pictures=pictures,
            look=look,
            blur=blur is not None,
        )
        try:
            results = asyncio.run(estimating)
        except UnseenHeadsError as error:
            raise click.UsageError(f"--{error}") from error
    if why:
        click.echo(why, err=True)
    for result, picture in zip_longest(results, pictures):
        if result.problem:
            click.echo(f"Error: {shown(result.path)}: {result.problem}", err=True)
        elif picture is not None:
            click.echo(f"{shown(result.path)}: drawn on {shown(picture)}", err=True)
    write_out(write_results(results, style))
    if any(result.problem for result in results):
        sys.exit(1)
