"""`posewire models check`: reads a graph of the user's, and writes its catalogue entry."""

from __future__ import annotations

from pathlib import Path

import click

from engines.catalogue import load
from engines.files import shown
from service.cli.output import file_error, write_out
from service.cli.sizes import InputSize


@click.command(short_help="Write the catalogue entry of a graph of yours, and try it.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--family", help="The family that reads it.  [default: the first that fits]")
@click.option("--skeleton", help="The skeleton of its keypoints.  [default: the first with as many]")
@click.option("--detector", help='Model that finds the people, "" for none.  [default: one on this machine]')
@click.option("--size", type=InputSize(), help="Size of its input, for graphs that take any.")
@click.option("--name", help="Name of the model.  [default: the file's]")
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Image to run it on.  [default: a drawn one]",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Catalogue file.  [default: stdout]")
def check(
    file: Path,
    family: str | None,
    skeleton: str | None,
    detector: str | None,
    size: tuple[int, int] | None,
    name: str | None,
    image: Path | None,
    output: Path | None,
) -> None:
    """Find out how to serve the graph FILE, write a catalogue file for it, and run it once.

    FILE is an ONNX, OpenVINO IR or TFLite file, a frozen TensorFlow graph (.pb), or the model.json of a TensorFlow.js
    GraphModel.

    posewire models check my.onnx > my.toml
    POSEWIRE_CATALOGUE=my.toml posewire serve --model my
    """
    from service.media.image_files import ImageError
    from service.offline.model_check import ModelCheckError, Wishes, draft_model, try_model

    try:
        draft = draft_model(file, Wishes(name, family, skeleton, detector, size), load())
        if output is None:
            write_out(draft.entry)
        else:
            output.write_text(draft.entry, "utf-8")
        for line in draft.findings:
            click.echo(line, err=True)
        click.echo(try_model(draft, image), err=True)
    except ModelCheckError as error:
        raise click.ClickException(str(error)) from error
    except ImageError as error:
        raise click.ClickException(f"{shown(image)}: {error}" if image else str(error)) from error
    except OSError as error:
        raise file_error(error, output or file) from error
