"""A little model, and a fleet that serves it, shared by the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.fleet import Fleet
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_catalogue(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encoded(photo(), quality=90)


@pytest.fixture(scope="module")
def fleet(catalogue: Path) -> Iterator[Fleet]:
    """Two replicas."""
    with Fleet(2, "--model", "tiny", catalogue=catalogue) as running:
        yield running
