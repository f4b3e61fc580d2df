"""`posewire batch`: find the people in whole archives of images and videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from engines.catalogue import load
from engines.cores import usable_cores


@click.command(short_help="Find the people in a folder or archive of images and videos.")
@click.argument("source", metavar="SRC", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", metavar="DST", type=click.Path(file_okay=False, path_type=Path))
@click.option("--ray", is_flag=True, help="On the Ray cluster that RAY_ADDRESS names, or one of this machine's own.")
@click.option("--workers", type=click.IntRange(1), help="Processes, of one core each.  [default: one per core]")
@click.option("--gpus", type=click.FloatRange(0), default=0.0, help="With --ray: the part of a GPU for each worker.")
@click.option("--model", default="auto", show_default=True, help="Model to use; auto takes the best one available.")
@click.option("--format", "style", type=click.Choice(["json", "coco", "csv"]), default="json", show_default=True)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--max-people", type=click.IntRange(1), default=50, show_default=True)
@click.option(
    "--shard", type=click.IntRange(1), default=64, show_default=True, help="Images done, or done again, at once."
)
@click.option("--retry-failed", is_flag=True, help="Try again what an earlier run could not do.")
def batch(
    source: Path,
    folder: Path,
    ray: bool,
    workers: int | None,
    gpus: float,
    model: str,
    style: Literal["json", "coco", "csv"],
    min_score: float,
    max_people: int,
    shard: int,
    retry_failed: bool,
) -> None:
    """Find the people in all images and videos of SRC, and write them to the folder DST.

    SRC is a folder, a .zip or .tar archive, or a text file that names files, one a line. After a crash, a kill or
    Ctrl-C the same command goes on, to the same results byte for byte. DST/failed.jsonl lists the files that could not
    be done; if there are any, the exit code is 1.
    """
    from service.cli.model_option import choose
    from service.config import Settings
    from service.offline.bulk.batch import do_batch
    from service.offline.bulk.errors import BulkError
    from service.offline.bulk.manifest import BulkOptions
    from service.offline.bulk.worker import BulkJob
    from service.offline.bulk.worker_pool import BulkWorkerPool, LocalWorkerPool

    catalogue = load()
    [name], why = choose(catalogue, (model,))
    if why:
        click.echo(why, err=True)

    def open_pool(job: BulkJob) -> BulkWorkerPool:
        if ray:
            from service.offline.bulk.ray_pool import RayWorkerPool

            return RayWorkerPool(job, workers, gpus)
        return LocalWorkerPool(job, workers or usable_cores())

    options = BulkOptions(style, min_score, max_people, shard, BulkOptions.settings_of(Settings()))
    try:
        done = do_batch(
            source,
            folder,
            catalogue,
            name,
            options,
            open_pool=open_pool,
            retry_failed=retry_failed,
            say=lambda text: click.echo(text, nl=False, err=True),
            terminal=sys.stderr.isatty(),
        )
    except BulkError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped; the same command goes on from here.", err=True)
        sys.exit(130)
    click.echo(done.summary(), err=True)
    if done.failures:
        sys.exit(1)
