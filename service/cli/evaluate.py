"""`posewire eval`: measure results against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from engines.catalogue import load
from engines.files import shown
from service.cli.output import write_out

if TYPE_CHECKING:
    from service.evaluation.files import CocoReport, PoseTrackReport

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PATH = click.Path(exists=True, path_type=Path)
_json = click.option(
    "--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write all the figures to that file."
)


@click.group("eval")
def evaluate() -> None:
    """Measure results against the truth."""


@evaluate.command(short_help="Keypoint AP and AR of COCO results.")
@click.argument("truth", metavar="GT", type=_FILE)
@click.argument("results", metavar="PRED", type=_PATH)
@click.option(
    "--sigmas",
    metavar="SKELETON|FILE|LIST",
    help="OKS constants of the keypoints: of a skeleton, or numbers.  [default: of the keypoints that GT names]",
)
@_json
def coco(truth: Path, results: Path, sigmas: str | None, target: Path | None) -> None:
    """Keypoint AP and AR of COCO results in PRED, a file or a folder, against the annotations in GT."""
    from service.evaluation.files import evaluate_coco, read_sigmas

    skeletons = load().skeletons
    _show(evaluate_coco(truth, results, None if sigmas is None else read_sigmas(sigmas, skeletons), skeletons), target)


@evaluate.command(short_help="PoseTrack's mAP, MOTA and MOTP; IDF1 and HOTA.")
@click.argument("truth", metavar="GT", type=_PATH)
@click.argument("results", metavar="PRED", type=_PATH)
@click.option(
    "--poseval/--exact",
    default=True,
    show_default=True,
    help="As published figures are made, or without the errors of the program that makes them.",
)
@_json
def posetrack(truth: Path, results: Path, poseval: bool, target: Path | None) -> None:
    """AP, MOTA and MOTP per joint, IDF1 and HOTA of people; GT and PRED are files of a sequence, or folders of them."""
    from service.evaluation import CORRECT, POSEVAL
    from service.evaluation.files import evaluate_posetrack

    _show(evaluate_posetrack(truth, results, POSEVAL if poseval else CORRECT), target)


def _show(report: CocoReport | PoseTrackReport, target: Path | None) -> None:
    if target is not None:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        try:
            target.write_bytes(orjson.dumps(report.document(), option=options))
        except OSError as error:
            raise click.ClickException(f"{shown(target)}: cannot be written: {error.strerror}") from error
    write_out(report.table() + "\n")
