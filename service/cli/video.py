"""`posewire video`: track the people in a video."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.catalogue import load
from service.cli.drawing import drawing_options
from service.cli.model_option import MODEL_HELP, choose
from service.cli.output import progress_bar
from service.cli.zones_file import read_zones

if TYPE_CHECKING:
    from service.media.draw import DrawOptions
    from service.media.palette import Colouring


def _read_detect_every(_: click.Context, __: click.Parameter, value: str) -> float | None:
    if value == "auto":
        return None
    if not (value.isascii() and value.isdigit()):
        raise click.BadParameter("it must be auto or a number of milliseconds")
    return int(value) / 1000


@click.command(short_help="Track the people in a video.")
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the video with the skeletons drawn."
)
@click.option(
    "--poses", type=click.Path(dir_okay=False, path_type=Path), help="Write the poses: .json, .ndjson or .csv."
)
@click.option(
    "--zones",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with zones, lines and rules, as in a stream's hello.",
)
@click.option(
    "--events",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what happens at --zones: .ndjson, a line an event.",
)
@click.option("--model", default="auto", show_default=True, help=MODEL_HELP)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--max-people", type=click.IntRange(1), default=50, show_default=True)
@click.option(
    "--detect-every",
    default="0",
    callback=_read_detect_every,
    metavar="MS",
    help="Detect people only so often; auto: when somebody is lost or new, and at times.",
)
@click.option(
    "--forget-seconds",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Know people again who were out of sight for so long.",
)
@click.option("--trails", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Draw everybody's last way.")
@drawing_options
@click.option("--heat-map", is_flag=True, help="Draw for how long people have stood where.")
@click.option("--smooth/--no-smooth", default=True, show_default=True, help="Smooth what is drawn.")
@click.option("--smooth-poses", is_flag=True, help="Smooth --poses, too.")
@click.option(
    "--offline-identities/--no-offline-identities",
    default=False,
    show_default=True,
    help="Join identities when everything has been seen.",
)
@click.option(
    "--min-cutoff", type=float, default=1.0, show_default=True, metavar="HZ", help="Lower smooths people at rest more."
)
@click.option(
    "--beta", type=float, default=10.0, show_default=True, metavar="NUMBER", help="Higher smooths moving people less."
)
def video(
    source: Path,
    out: Path | None,
    poses: Path | None,
    zones: Path | None,
    events: Path | None,
    model: str,
    min_score: float,
    max_people: int,
    detect_every: float | None,
    forget_seconds: float,
    trails: float,
    boxes: bool,
    ids: bool,
    labels: bool,
    colours: Colouring,
    blur: str | None,
    heat_map: bool,
    smooth: bool,
    smooth_poses: bool,
    offline_identities: bool,
    min_cutoff: float,
    beta: float,
) -> None:
    """Track the people in the video IN; after a crash or Ctrl-C the same command goes on from there."""
    from service.media.faces import UnseenHeadsError
    from service.media.video_reader import VideoError, VideoReader
    from service.offline.journal import JournalError
    from service.offline.resumable_tracking import VideoOptions
    from service.offline.video_task import VideoTask
    from service.offline.videos import own_networks, process_video
    from service.tracking.smoothing import OneEuroConfig
    from service.tracking_workers.state import TrackingOptions

    try:
        smoothing = OneEuroConfig(min_cutoff, beta) if smooth else None
    except ValueError as error:
        raise click.UsageError(f"--{str(error).replace('_', '-', 1)}") from error
    try:
        hello = read_zones(zones)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if smooth_poses and smoothing is None:
        raise click.UsageError("--no-smooth and --smooth-poses contradict each other")
    options = VideoOptions(min_score, max_people, detect_every, forget_seconds)
    look: DrawOptions = {"boxes": boxes, "ids": ids, "labels": labels, "colours": colours}
    task = VideoTask(
        source,
        out,
        poses,
        options,
        trails,
        smoothing,
        smooth_poses,
        offline_identities=offline_identities,
        look=look,
        blur=blur is not None,
        heat_map=heat_map,
        events=events,
        places=TrackingOptions(zones=hello.zones, lines=hello.lines, rules=hello.rules),
    )
    if wrong := task.problem():
        raise click.UsageError(wrong)
    try:
        with VideoReader(source) as reader:
            catalogue = load()
            [name], why = choose(catalogue, (model,))
            if why:
                click.echo(why, err=True)
            with progress_bar(source.name, (reader.info.frames or 1) * task.passes) as advance:
                networks = own_networks(catalogue, name)
                work = process_video(reader, task, name, networks, advance=lambda _: advance())
                outcome, problem = asyncio.run(work)
    except UnseenHeadsError as error:
        raise click.UsageError(f"--{error}") from error
    except (VideoError, JournalError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped; the same command goes on from here.", err=True)
        sys.exit(130)
    click.echo(outcome, err=True)
    if problem:
        raise click.ClickException(problem)
