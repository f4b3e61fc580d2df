"""The client as `pip install ./service/client` leaves it, with the packages that it declares and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

FOLDER = Path(__file__).parents[1] / "service" / "client"


def install_client(site: Path) -> Path:
    """Build the client's wheel, install it into `site`, and link all packages that it needs there.

    Returns `site`. With it as PYTHONPATH, `python -S` sees no other packages.
    """
    options = ("-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(FOLDER)]
    subprocess.run(command, check=True)
    [client] = distributions(path=[str(site)])
    for needed in _needed_by(client):
        for name in {file.parts[0] for file in needed.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(str(needed.locate_file(name)))
    return site


def _needed_by(dependent: Distribution) -> Iterator[Distribution]:
    for text in dependent.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed = distribution(requirement.name)
            yield needed
            yield from _needed_by(needed)
