"""The little model and the picture that tests of servers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_catalogue(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encoded(photo(), quality=90)
