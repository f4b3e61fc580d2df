"""`posewire build`: a model out of a checkpoint, or of another model in less precision."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from engines.catalogue import load
from service.cli_int8 import build_twin


class _Size(click.ParamType[tuple[int, int]]):
    name = "HEIGHTxWIDTH"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(height, width)."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
        if found is None:
            self.fail(f"{value!r} is not a height and a width such as 256x192", param, ctx)
        return int(found[1]), int(found[2])


@click.command(short_help="Make a model out of a checkpoint, or an int8 one.")
@click.argument("architecture", metavar="ARCHITECTURE | MODEL")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The authors' file: .pth, .pth.tar, .safetensors.",
)
@click.option(
    "--size", type=_Size(), help="Input of the network.  [default: what the file's name says, or the paper's]"
)
@click.option("--name", help="What to call the model.  [default: ARCHITECTURE]")
@click.option("--skeleton", help="What the keypoints are.  [default: by number, coco-17 or mpii-16]")
@click.option(
    "--detector", default="rtmdet-nano", show_default=True, help="Who finds people; none: look at whole frames."
)
@click.option("--precision", type=click.Choice(["int8"]), help="Of a MODEL of the catalogue, for the CPU.")
@click.option(
    "--images",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of some dozens of images such as will come; int8 takes its scales from them.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder.  [default: this one]"
)
def build(
    architecture: str,
    checkpoint: Path | None,
    size: tuple[int, int] | None,
    name: str | None,
    skeleton: str | None,
    detector: str,
    precision: str | None,
    images: Path | None,
    out: Path,
) -> None:
    """Turn a checkpoint of ARCHITECTURE into an ONNX graph and a catalogue file, proved to give what torch gives; or,
    with --precision int8, a MODEL of the catalogue into one for the CPU, held to what it gives in fp32.

    ARCHITECTURE: simple-baseline-r50, simple-baseline-r101, simple-baseline-r152, hrnet-w32, hrnet-w48,
    higherhrnet-w32, higherhrnet-w48, hourglass-8 or cpn-r50.
    """
    if (checkpoint is None) == (precision is None):
        raise click.UsageError("give a --checkpoint of an ARCHITECTURE, or a --precision for a MODEL of the catalogue")
    if checkpoint is None:
        _say_how_to_serve(*build_twin(architecture, images, out))
        return
    try:
        import torch  # noqa: F401  # the extra, whose absence is the user's to mend
    except ModuleNotFoundError as error:
        raise click.ClickException("building needs torch: pip install 'posewire[torch]'") from error
    from engines.build.checkpoint import BuildError, Order, build_checkpoint
    from engines.build.export import ExportError
    from engines.networks.checkpoints import CheckpointError

    if detector != "none":
        load()[detector]  # says now what serving would say later
    order = Order(
        architecture, checkpoint, name or architecture, size, skeleton, None if detector == "none" else detector
    )
    click.echo(f"reading {checkpoint}, exporting and comparing; this can take minutes", err=True)
    try:
        built = build_checkpoint(order, out)
    except (BuildError, CheckpointError, ExportError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or out}: {error.strerror or error}") from error
    pixels = built.pixels
    click.echo(
        f"{built.graph}: input {pixels.height}x{pixels.width} {pixels.order}, {built.skeleton}, "
        f"differs from torch by {built.difference:.1e} of the largest value"
    )
    _say_how_to_serve(order.name, built.catalogue)


def _say_how_to_serve(name: str, catalogue: Path) -> None:
    known = [str(Path(part).resolve()) for part in os.environ.get("POSEWIRE_CATALOGUE", "").split(os.pathsep) if part]
    catalogues = os.pathsep.join([*known, str(catalogue.resolve())])
    click.echo(f"serve it: POSEWIRE_CATALOGUE={catalogues} posewire serve --model {name}")
