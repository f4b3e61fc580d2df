"""`posewire build MODEL --precision int8`: the int8 version of a catalogue model for the CPU."""

from __future__ import annotations

from pathlib import Path

import click

from engines.catalogue import Catalogue
from service.cli.output import file_error


def build_int8_model(catalogue: Catalogue, name: str, images: Path | None, out: Path) -> tuple[str, Path]:
    """Build the model and report its accuracy. Returns its name and catalogue file. Raises ClickException."""
    if images is None:
        raise click.ClickException("int8 takes its scales from real images: give a folder of them with --images")
    try:
        import onnxscript  # noqa: F401  # checked here for the error message about the missing extra
    except ModuleNotFoundError as error:
        raise click.ClickException("building needs onnx and onnxscript: pip install 'posewire[torch]'") from error
    from engines.build.accuracy_gate.images import CalibrationError
    from engines.build.int8_model import build_int8
    from engines.build.precision.convert import PrecisionError

    click.echo(f"calibrating {name} on {images} and comparing; this can take minutes", err=True)
    try:
        built = build_int8(catalogue[name], catalogue, images, out)
    except (CalibrationError, PrecisionError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise file_error(error, out) from error
    report = built.report
    click.echo(
        f"{built.graph}: {report}; against fp32, of a crop: keypoints {report.distance:.4f} apart, "
        f"{report.lost:.1%} lost, {report.gained:.1%} gained"
    )
    return built.name, built.catalogue
