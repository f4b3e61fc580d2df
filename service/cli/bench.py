"""`posewire bench`: measure this machine with an image, or a server with load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from engines.catalogue import load
from engines.files import open_at_once, shown
from service.cli.model_option import MODEL_HELP, choose
from service.cli.output import file_error, write_out

if TYPE_CHECKING:
    from service.load.bench import BenchOptions
    from service.load.pictures import Picture
    from service.load.samples import Step


@click.command(short_help="Measure this machine with an image, or a server with load.")
@click.argument("target", metavar="FILE | URL")
@click.option("--model", default="auto", show_default=True, help=MODEL_HELP)
@click.option("--seconds", type=click.FloatRange(0.5), default=5.0, show_default=True, help="Of each step.")
@click.option(
    "--concurrency", type=click.IntRange(1), help="Images at once; at a URL, the most.  [default: 8; at a URL 64]"
)
@click.option("--api-key", envvar="POSEWIRE_API_KEY", help="Of the server at URL; better in POSEWIRE_API_KEY.")
@click.option(
    "--image",
    "images",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Image to send to URL, or a folder of them; may be repeated.  [default: a drawn one]",
)
@click.option("--streams", type=click.IntRange(0), default=16, show_default=True, help="The most streams at URL.")
@click.option("--fps", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Of each stream.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a plot to that PNG file.")
@click.option("--json", "document", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def bench(
    target: str,
    model: str,
    seconds: float,
    concurrency: int | None,
    api_key: str | None,
    images: Sequence[Path],
    streams: int,
    fps: float,
    plot: Path | None,
    document: Path | None,
) -> None:
    """Measure this machine with image FILE: images a second and latency, alone and CONCURRENCY at once.

    Or put load on the server at URL: more and more stills at once, stills at fixed rates, and more and more streams.
    Prints a line for each step with the latency and its parts, and what follows: what the server holds, which stage
    limits it, and which setting to turn. Latencies count from the time at which a request was due.
    """
    if not target.startswith(("http://", "https://")):
        _measure_here(Path(target), model, seconds, concurrency or 8)
        return
    from service.load.bench import BenchOptions

    named = None if model == "auto" else model
    options = BenchOptions(seconds, concurrency or 64, streams, fps, named)
    steps, people = _measure_server(target.rstrip("/"), api_key or "", _pictures(images), options)
    _conclude(steps, people, target, plot, document)


def _measure_here(file: Path, model: str, seconds: float, concurrency: int) -> None:
    if not file.is_file():
        raise click.UsageError(f"{shown(file)} is not a file, nor a URL such as http://localhost:8000")
    from service.media.image_files import ImageError
    from service.offline.images import measure

    catalogue = load()
    [name], why = choose(catalogue, (model,))
    write_out(f"{why or name}\n")
    for level in (1, concurrency):
        try:
            line = asyncio.run(measure(file, catalogue, name, seconds=seconds, concurrency=level))
        except ImageError as error:
            raise click.ClickException(f"{shown(file)}: {error}") from error
        write_out(line + "\n")


def _measure_server(
    url: str, api_key: str, pictures: Sequence[Picture], options: BenchOptions
) -> tuple[list[Step], float]:
    """Returns the steps, and how many people the server finds in a picture."""
    from service.client import AsyncClient
    from service.load.bench import Bench, BenchError
    from service.load.connection import Server
    from service.load.samples import heading

    async def run() -> tuple[list[Step], float]:
        server = Server(url, (f"Authorization: Bearer {api_key}",) if api_key else ())
        async with AsyncClient(url, api_key=api_key, patience=5) as client:
            bench = Bench(server, client, pictures, options, lambda step: write_out(step.line() + "\n"))
            write_out(heading() + "\n")
            return await bench.run(), bench.people

    try:
        return asyncio.run(run())
    except (BenchError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("stopped before all steps were done") from None


def _conclude(steps: Sequence[Step], people: float, url: str, plot: Path | None, document: Path | None) -> None:
    from dataclasses import asdict

    from service.load.advice import advise
    from service.load.chart import draw_chart

    advice = advise(steps, people)
    write_out("\n" + "".join(f"{line}\n" for line in advice))
    if plot is not None:
        try:
            draw_chart(plot, f"posewire bench {url}", steps)
        except OSError as error:
            raise file_error(error, plot) from error
    if document is not None:
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
        figures = {"url": url, "people": people, "steps": [asdict(step) for step in steps], "advice": advice}
        content = orjson.dumps(figures, option=options)
        try:
            document.write_bytes(content)
        except OSError as error:
            raise file_error(error, document) from error


def _pictures(paths: Sequence[Path]) -> list[Picture]:
    """Read the images to send. Without any, draw one."""
    from service.load.pictures import MEDIA_TYPES_BY_SUFFIX, Picture, drawn_picture

    if not paths:
        return [drawn_picture()]
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    found = []
    for file in files:
        media_type = MEDIA_TYPES_BY_SUFFIX.get(file.suffix.lower())
        if media_type is not None and file.is_file():
            with open_at_once(file) as opened:
                found.append(Picture(opened.read(), media_type))
    if not found:
        raise click.UsageError(f"--image: none of {len(files)} files is a .jpg, .png or .webp")
    return found
