"""Ends the shared decoder processes at the end of the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.media.files import pool


@pytest.fixture(scope="session", autouse=True)
def _decoders() -> Iterator[None]:
    yield
    pool().close()
