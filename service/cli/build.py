"""`posewire build`: builds models from checkpoints, and TensorRT plans or int8 models from models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.build.checkpoint.built import BuildRequest, is_built
from engines.catalogue import load
from engines.plans.flavour import NoTensorRTError, find_flavour
from engines.plans.gpu import Gpu, find_gpu
from service.cli.build_int8 import build_int8_model
from service.cli.output import file_error
from service.cli.sizes import InputSize

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision


@click.command(short_help="Build a model from a checkpoint, or a plan or int8 version of a model.")
@click.argument("model", metavar="ARCHITECTURE | MODEL")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The authors' file (.pth, .pth.tar, .safetensors); MODEL is then its architecture.",
)
@click.option(
    "--size", type=InputSize(), help="Size of the network's input.  [default: as in the file's name, or the paper's]"
)
@click.option("--name", help="Name of the model.  [default: ARCHITECTURE]")
@click.option("--skeleton", help="Skeleton of the keypoints.  [default: coco-17 or mpii-16, by their number]")
@click.option(
    "--detector", default="rtmdet-nano", show_default=True, help="Model that finds the people; none: take whole frames."
)
@click.option(
    "--for",
    "device",
    type=click.Choice(["gpu", "cpu"]),
    help="A TensorRT plan, or an int8 model for the CPU.  [default: cpu for int8 where there is no GPU, else gpu]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp16", "bf16", "int8", "fp32"]),
    help="Precision of a plan; if it finds other people than fp32, the next one is built.  [default: fp16]",
)
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=32, show_default=True, help="Largest batch of a plan."
)
@click.option("--lean", is_flag=True, help="A plan for TensorRT's lean runtime, for servers with posewire[lean].")
@click.option(
    "--images",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of a few dozen typical images, to calibrate int8 and to judge plans.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder.  [default: this one]"
)
def build(
    model: str,
    checkpoint: Path | None,
    size: tuple[int, int] | None,
    name: str | None,
    skeleton: str | None,
    detector: str,
    device: str | None,
    precision: Precision | None,
    max_batch: int,
    lean: bool,
    images: Path | None,
    out: Path,
) -> None:
    """Build TensorRT plans of a MODEL of the catalogue and of its detector for this machine's GPU; or, with --precision
    int8 --for cpu, an int8 model for the CPU, compared with fp32.

    With --checkpoint: turn a checkpoint of ARCHITECTURE into an ONNX graph and a catalogue file, compare the graph with
    torch, and then do the same with that model. Without a GPU, only the graph is built unless --for or --precision is
    given.

    ARCHITECTURE: simple-baseline-r50, simple-baseline-r101, simple-baseline-r152, hrnet-w32, hrnet-w48,
    higherhrnet-w32, higherhrnet-w48, hourglass-8 or cpn-r50.
    """
    # It imports the families, whose packages other commands do not need.
    from service.cli.build_plans import build_plans

    gpu = find_gpu()
    if lean and device is None:
        device = "gpu"
    no_plan_reason = _no_plan_reason(gpu) if checkpoint is not None and device is None and precision is None else ""
    if device is None and precision == "int8" and gpu is None:
        device = "cpu"
    if lean and device == "cpu":
        raise click.UsageError("--lean is of plans, which are for GPUs")
    if device == "cpu" and precision != "int8" and (checkpoint is None or precision is not None):
        raise click.UsageError("for the CPU there are int8 models to build; the others are served as they are")
    if checkpoint is None:
        if given := [f"--{key}" for key, value in {"size": size, "name": name, "skeleton": skeleton}.items() if value]:
            raise click.UsageError(f"{', '.join(given)}: only with --checkpoint; the catalogue says it of {model}")
        catalogues = _catalogues()
        names = [part.name for part in reversed(load().parts(model))]
    else:
        finder = None if detector == "none" else detector
        request = BuildRequest(model, checkpoint, name or model, size, skeleton, finder)
        names = [*request.names[1:], request.name]
        catalogues = [*_catalogues(), _build_checkpoint(request, out)]
    if device == "cpu" and precision == "int8":
        int8_name, catalogue = build_int8_model(load(catalogues), names[-1], images, out)
        names, catalogues = [int8_name], [*catalogues, catalogue]
    elif no_plan_reason:
        click.echo(f"no plan is built: {no_plan_reason}")
    elif device != "cpu":
        build_plans(load(catalogues), names, precision or "fp16", max_batch, images, lean=lean)
    if checkpoint is not None or device == "cpu":
        _say_how_to_serve(names[-1], catalogues)


def _no_plan_reason(gpu: Gpu | None) -> str:
    """The reason for not building a plan that was not requested, or ""."""
    if gpu is None:
        return "there is no GPU here, and CPUs run the graph as it is (--for gpu builds one for GPUs elsewhere)"
    try:
        find_flavour(gpu)
    except NoTensorRTError as error:
        return str(error)
    return ""


def _say_how_to_serve(name: str, catalogues: Sequence[Path]) -> None:
    named = os.pathsep.join(str(path.resolve()) for path in catalogues)
    click.echo(f"serve it: POSEWIRE_CATALOGUE={named} posewire serve --model {name}")


def _catalogues() -> list[Path]:
    return [Path(part) for part in os.environ.get("POSEWIRE_CATALOGUE", "").split(os.pathsep) if part]


def _build_checkpoint(request: BuildRequest, out: Path) -> Path:
    """Build the model unless it exists, and report it. Returns its catalogue file."""
    models = load()
    if request.detector is not None:
        models[request.detector]  # report an unknown detector now instead of when serving
    catalogue = request.catalogue(out)
    try:
        if is_built(request, out):
            click.echo(f"{request.graphs(out)[0]}: already built of {request.checkpoint}")
            return catalogue
    except OSError as error:
        raise file_error(error, request.checkpoint) from error
    if find_spec("torch") is None:
        raise click.ClickException("building needs torch: pip install 'posewire[torch]'")
    # These import torch, which takes seconds.
    from engines.build.checkpoint.build import BuildError, build_checkpoint
    from engines.build.checkpoint.export import ExportError
    from engines.networks.checkpoints import CheckpointError

    click.echo(f"reading {request.checkpoint}, exporting and comparing; this can take minutes", err=True)
    try:
        built = build_checkpoint(request, out, models.skeletons)
    except (BuildError, CheckpointError, ExportError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise file_error(error, out) from error
    for graph, pixels in built.graphs.items():
        click.echo(
            f"{graph}: input {pixels.height}x{pixels.width} {pixels.order}, {built.skeleton}, "
            f"differs from torch by {built.difference:.1e} of the largest value"
        )
    return catalogue
