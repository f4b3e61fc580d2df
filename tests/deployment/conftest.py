"""A fleet shared by the tests that do not change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.fleet import Fleet


@pytest.fixture(scope="module")
def fleet(catalogue: Path) -> Iterator[Fleet]:
    """Two replicas."""
    with Fleet(2, "--model", "tiny", catalogue=catalogue) as running:
        yield running
