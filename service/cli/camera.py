"""`posewire camera`: find and follow the people before a camera."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.catalogue import load
from service.cli.model_option import choose
from service.cli.output import write_out
from service.cli.zones_file import read_zones

if TYPE_CHECKING:
    from service.cameras.camera import Camera
    from service.cameras.sources.address import SourceTransport
    from service.watching.frames import WatchOptions
    from service.watching.outputs import What
    from service.watching.watching import Watching

_STOP_S = 1.5
"""After this time, the command ends without having finished: a network or a reader of the output may hang."""


@click.command(short_help="Follow the people before a camera.")
@click.argument("source")
@click.option("--server", metavar="URL", help="Let that server find the people.  [default: this process does]")
@click.option("--api-key", envvar="POSEWIRE_API_KEY", help="The server's; better in POSEWIRE_API_KEY.")
@click.option("--model", default="auto", help="Model to use.  [default: the best one available, or the server's]")
@click.option("--skeleton", default="native", show_default=True, help="Skeleton of the keypoints.")
@click.option(
    "--zones",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with zones, lines and rules, as in a stream's hello.",
)
@click.option(
    "--transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True, help="Transport of RTSP."
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Verify certificates of rtsps:// and https://."
)
@click.option("--fps", type=click.FloatRange(0, min_open=True), help="At most so many frames a second.")
@click.option("--show", is_flag=True, help="Show the people in a window.")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Write a video: .mp4, .mkv, .webm.")
@click.option("--plain", is_flag=True, help="Record without skeletons.")
@click.option(
    "--print",
    "what",
    type=click.Choice(["results", "events", "nothing"]),
    help="JSON lines to print.  [default: events with --zones, else results]",
)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--max-people", type=click.IntRange(1), default=50, show_default=True)
@click.option("--smooth/--no-smooth", default=True, show_default=True, help="Smooth the keypoints.")
def camera(
    source: str,
    server: str | None,
    api_key: str | None,
    model: str,
    skeleton: str,
    zones: Path | None,
    transport: SourceTransport,
    verify: bool,
    fps: float | None,
    show: bool,
    record: Path | None,
    plain: bool,
    what: What | None,
    min_score: float,
    max_people: int,
    smooth: bool,
) -> None:
    """Find and follow the people before a camera, until Ctrl-C.

    SOURCE is a camera of this machine (0, /dev/video0), an rtsp:// or rtsps:// address, MJPEG or HLS at an http:// or
    https:// address, or a video file, which is played at its own speed. A camera that is lost is connected again.
    """
    from service.cameras.camera import Camera, CameraError
    from service.cameras.sources.address import SourceAddress, SourceOptions
    from service.client import ClientError
    from service.media.media_file import VideoError
    from service.media.video_writer import VIDEO_SUFFIXES
    from service.tracking.smoothing import OneEuroConfig
    from service.tracking_workers.state import TrackingOptions
    from service.watching.frames import WatchOptions
    from service.watching.outputs import Output, Printer, Recording
    from service.watching.watching import Watching
    from service.watching.window import PictureWindow, WindowError, check_display

    outputs: list[Output] = []
    try:
        address = SourceAddress.parse(source)
        if record is not None:
            if record.suffix.lower() not in VIDEO_SUFFIXES:
                raise ValueError(f"cannot write {record.name}: the name must end in {', '.join(VIDEO_SUFFIXES)}")
            if address.kind == "file" and record.exists() and record.samefile(address.target):
                raise ValueError(f"{record} is the source itself; record to another file")
            outputs.append(Recording(record, plain=plain))
        if show:
            check_display()
            outputs.append(PictureWindow(f"Posewire: {address.name}"))
        places = read_zones(zones)
        smoothing = OneEuroConfig() if smooth else None
        tracking = TrackingOptions(smoothing, zones=places.zones, lines=places.lines, rules=places.rules)
    except (ValueError, WindowError) as error:
        raise click.UsageError(str(error)) from error
    options = WatchOptions(min_score, max_people, skeleton, tracking)
    printer = Printer(what or ("events" if zones else "results"), zones is not None, write_out)
    watching = Watching(
        printer, outputs, zones=tracking.zones, lines=tracking.lines, say=lambda line: click.echo(line, err=True)
    )
    how = SourceOptions(transport, verify, hosts=("*",))  # what this user can reach anyway
    opened = Camera(address, how, fps=fps or math.inf, changed=watching.changed)
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(_watch(watching, opened, options, server, api_key, model))
    except (CameraError, ClientError, VideoError, WindowError, ValueError) as error:
        raise click.ClickException(address.redact(str(error))) from error
    click.echo(watching.outcome, err=True)


async def _watch(
    watching: Watching, camera: Camera, options: WatchOptions, server: str | None, api_key: str | None, model: str
) -> None:
    """Watch until the camera ends or a signal comes. Raises ValueError for a bad URL, skeleton or model."""
    _stop_at_signals()
    catalogue = load()
    async with AsyncExitStack() as stack:
        if server is not None:
            from service.client import AsyncClient
            from service.watching.remote import RemoteWatcher

            client = await stack.enter_async_context(AsyncClient(server, api_key=api_key or ""))
            named = None if model == "auto" else model
            say = watching.say
            await watching.run(camera, RemoteWatcher(client, options, catalogue.skeletons, model=named, say=say))
            return
        from service.config import Settings
        from service.inference.model_registry import open_serving
        from service.watching.local import LocalWatcher

        skeleton = None
        if options.skeleton != "native":
            skeleton = catalogue.skeletons.get(options.skeleton)
            if skeleton is None:
                raise ValueError(f"no skeleton is called {options.skeleton!r}; {', '.join(catalogue.skeletons)} are")
        [name], why = await asyncio.to_thread(choose, catalogue, (model,))
        if why:
            watching.say(why)
        serving = await asyncio.to_thread(open_serving, catalogue, [name], Settings())
        stack.push_async_callback(serving.close, drain_seconds=0.5)
        await serving.start()
        await watching.run(camera, LocalWatcher(serving.default, options, skeleton))


def _stop_at_signals() -> None:
    """Let Ctrl-C and SIGTERM cancel this task, so that everything is finished. What hangs is left after a moment."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if task is not None:
            task.cancel()
        abandon = threading.Timer(_STOP_S, os._exit, (128 + number,))
        abandon.daemon = True
        abandon.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
