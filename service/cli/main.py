"""The `posewire` command."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from engines.catalogue.models import CatalogueError, FetchError, UnknownModelError, load
from engines.files import shown
from engines.plans.flavour import NoTensorRTError
from service import __version__
from service.cli.batch import batch
from service.cli.build import build
from service.cli.evaluate import evaluate
from service.cli.model_choice import choose, fetch_progress
from service.cli.output import give_up_output, write_out
from service.config import Settings, SettingsError, explain

_MODEL_HELP = "Model to use; several, separated by commas, for serve. auto takes the best that can be had."


class _Command(click.Group):
    """Turns the errors that a user can cause into one clear line and exit code 1 (2 for wrong usage)."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See click.Group. A file that cannot be read or written, the output among them, is one line too."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # of names that are not UTF-8
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            what = f"cannot read or write {shown(error.filename)}" if error.filename else "cannot write the output"
            with suppress(OSError):
                click.echo(f"Error: {what}: {error.strerror or 'it is closed'}", err=True)
            give_up_output()
            sys.exit(1)
        finally:
            try:
                if sys.stdout is not None:
                    sys.stdout.flush()
            except OSError:
                give_up_output()  # it was told of; Python would complain once more

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Group."""
        try:
            return super().invoke(ctx)
        except (CatalogueError, FetchError, NoTensorRTError, UnknownModelError) as error:
            raise click.ClickException(str(error)) from error
        except ValidationError as error:
            raise click.UsageError(explain(error)) from error
        except SettingsError as error:
            raise click.UsageError(str(error)) from error


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="posewire")
def main() -> None:
    """Find the people in images and give each person's keypoints."""


@main.command()
@click.option("--host", help="Address to listen on.  [default: 0.0.0.0]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8000]")
@click.option("--model", help=_MODEL_HELP)
@click.option("--workers", type=int, help="Server processes, each on cores and with models of its own.  [default: 1]")
@click.option("--backend", help="auto, openvino, torch or tensorrt.  [default: auto]")
@click.option("--precision", help="auto, fp32 or bf16; on GPUs fp16 or int8, too.  [default: auto]")
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="TOML file with any of the settings.")
@click.option("--log-format", help="json or text.  [default: json]")
def serve(**options: Any) -> None:
    """Serve POST /pose and WS /stream until SIGTERM or Ctrl-C."""
    from service.inference.backends import check_backend
    from service.server import (
        run_server,  # the server's packages take a second to import; other commands do without
    )

    for name, value in options.items():
        if value is not None:  # worker processes read their settings from the environment too
            os.environ[f"POSEWIRE_{name.upper()}"] = str(value)
    settings, catalogue = Settings(), load()
    check_backend(settings)
    run_server(settings, catalogue, choose(catalogue, settings.model))


@main.command(short_help="Find the people in images and print them.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="auto", show_default=True, help=_MODEL_HELP)
@click.option(
    "--render", type=click.Path(path_type=Path), help="Draw the skeletons: a picture, or a folder for several."
)
@click.option(
    "--format", "style", type=click.Choice(["json", "coco", "openpose", "csv"]), default="json", show_default=True
)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--max-people", type=click.IntRange(1), default=50, show_default=True)
def image(
    files: Sequence[Path], model: str, render: Path | None, style: str, min_score: float, max_people: int
) -> None:
    """Estimate the poses in image FILES, all in one batch, and print them."""
    from service.offline.images import ImageResult, drawings, estimate_files, write_results

    try:
        pictures = [] if render is None else drawings(files, render)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    catalogue = load()
    names, why = choose(catalogue, (model,))
    with _bar(f"{len(files)} images", len(files)) as advance:
        stills: list[ImageResult] = asyncio.run(
            estimate_files(
                files,
                catalogue,
                names[0],
                advance=advance,
                min_score=min_score,
                max_people=max_people,
                pictures=pictures,
            )
        )
    if model == "auto":
        click.echo(why, err=True)
    for still, picture in zip_longest(stills, pictures):
        if still.problem:
            click.echo(f"Error: {shown(still.path)}: {still.problem}", err=True)
        elif picture is not None:
            click.echo(f"{shown(still.path)}: drawn on {shown(picture)}", err=True)
    write_out(write_results(stills, style))
    if any(still.problem for still in stills):
        sys.exit(1)


@main.command(short_help="Track the people in a video.")
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the video with the skeletons drawn."
)
@click.option("--poses", type=click.Path(dir_okay=False, path_type=Path), help="Write the poses: .json or .csv.")
@click.option("--model", default="auto", show_default=True, help=_MODEL_HELP)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--max-people", type=click.IntRange(1), default=50, show_default=True)
@click.option("--detect-every", type=click.IntRange(0), default=0, metavar="MS", help="Detect people only so often.")
@click.option("--trails", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Draw everybody's last way.")
@click.option("--smooth/--no-smooth", default=True, show_default=True, help="Smooth what is drawn (never --poses).")
def video(
    source: Path,
    out: Path | None,
    poses: Path | None,
    model: str,
    min_score: float,
    max_people: int,
    detect_every: int,
    trails: float,
    smooth: bool,
) -> None:
    """Track the people in the video IN; after a crash or Ctrl-C the same command goes on from there."""
    from service.media.video import VideoError, VideoReader
    from service.offline.journal import JournalError
    from service.offline.video_frames import Seek
    from service.offline.videos import VideoTask, process_video

    task = VideoTask(source, out, poses, Seek(min_score, max_people, detect_every / 1000), trails, smooth)
    if wrong := task.problem():
        raise click.UsageError(wrong)
    try:
        with VideoReader(source) as reader:
            catalogue = load()
            names, why = choose(catalogue, (model,))
            if model == "auto":
                click.echo(why, err=True)
            with _bar(source.name, reader.info.frames or 1) as advance:
                done = asyncio.run(process_video(reader, task, catalogue, names[0], advance=advance))
    except (VideoError, JournalError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped; the same command goes on from here.", err=True)
        sys.exit(130)
    click.echo(done.summary(), err=True)
    if done.problem:
        raise click.ClickException(done.problem)


@main.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List the models of the catalogue, or fetch one."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_models(as_json: bool = False) -> None:
    """List the models, whether they are on this machine, and their licences."""
    rows = [
        {
            "name": m.name,
            "role": m.role,
            "here": m.cached,
            "licence": m.licence + ("" if m.commercial else " (no commercial use)"),
            "accuracy": m.accuracy,
            "title": m.title,
        }
        for m in load().models()
    ]
    if as_json:
        write_out(json.dumps(rows, indent=2) + "\n")
        return
    wide, licences = (max(len(str(row[key])) for row in rows) for key in ("name", "licence"))
    lines = []
    for row in rows:
        here = "here" if row["here"] else "-"
        lines.append(
            f"{row['name']:<{wide}}  {row['role']:<9}  {here:<4}  {row['licence']:<{licences}}  {row['title']}"
        )
        if row["accuracy"]:
            lines.append(f"{'':<{wide}}  {row['accuracy']}")
    write_out("".join(f"{line}\n" for line in lines))


@models.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Fetch the files of model NAME and of its detector."""
    for part in load().parts(name):
        path = part.fetch(progress=fetch_progress())
        write_out(f"{part.name}: {path}\n")


@main.command(short_help="Measure this machine with an image.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="auto", show_default=True, help=_MODEL_HELP)
@click.option("--seconds", type=click.FloatRange(0.5), default=5.0, show_default=True)
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True)
def bench(file: Path, model: str, seconds: float, concurrency: int) -> None:
    """Measure this machine: images a second and latency of image FILE, alone and CONCURRENCY at once."""
    from service.media.errors import ImageError
    from service.offline.images import measure

    catalogue = load()
    names, why = choose(catalogue, (model,))
    write_out(f"{why or names[0]}\n")
    for level in (1, concurrency):
        try:
            line = asyncio.run(measure(file, catalogue, names[0], seconds=seconds, concurrency=level))
        except ImageError as error:
            raise click.ClickException(f"{shown(file)}: {error}") from error
        write_out(line + "\n")


main.add_command(evaluate)
main.add_command(build)
main.add_command(batch)


@main.command(short_help="Make an API key.")
def key() -> None:
    """Make an API key: give the first line to the client, the second to the server."""
    from service.api.security import digest

    made = secrets.token_urlsafe(32)
    write_out(f"key:    {made}\ndigest: {digest(made)}\n")


@contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr where that is a terminal; gives a function that counts one step."""
    with click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield lambda: bar.update(1)
