"""The `posewire` command: its subcommands, and errors as one line on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

import click
from pydantic import ValidationError

from engines.catalogue import CatalogueError, FetchError, UnknownModelError
from engines.files import shown
from engines.plans.flavour import NoTensorRTError
from service import __version__
from service.cli.batch import batch
from service.cli.bench import bench
from service.cli.build import build
from service.cli.camera import camera
from service.cli.evaluate import evaluate
from service.cli.events import events
from service.cli.image import image
from service.cli.key import key
from service.cli.models import models
from service.cli.output import give_up_output
from service.cli.serve import serve
from service.cli.video import video
from service.config import SettingsError, explain
from service.formats.parsing import FormatError

_MISSING = {
    "av": "videos need PyAV: pip install av",
    "pycocotools": "COCO's metrics need pycocotools: pip install 'posewire[eval]'",
}
"""What to say if one of these packages is not installed. Only commands that use it import it."""


class _Command(click.Group):
    """Turns errors that a user can cause into one line and exit code 1 (2 for wrong usage)."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See click.Group. Also reports files that cannot be read or written, stdout included, in one line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # for file names that are not UTF-8
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
                give_up_output()  # already reported; Python would report it again

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Group."""
        try:
            return super().invoke(ctx)
        except (CatalogueError, FetchError, FormatError, NoTensorRTError, UnknownModelError) as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _MISSING:
                raise
            raise click.ClickException(_MISSING[package]) from error
        except ValidationError as error:
            raise click.UsageError(explain(error)) from error
        except SettingsError as error:
            raise click.UsageError(str(error)) from error


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="posewire")
def main() -> None:
    """Find the people in images and give each person's keypoints."""


for command in (serve, image, video, camera, batch, models, bench, evaluate, build, events, key):
    main.add_command(command)
