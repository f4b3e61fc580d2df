"""Fixtures that run every contract test with every runtime that this machine supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engines.runtimes import Runtime
from tests.contract.backends import BACKENDS, Backend


@pytest.fixture(scope="session", params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def runtime(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A shared runtime that takes pixels, for tests that do not close it."""
    opened = backend.open(tmp_path_factory.mktemp("contract"))
    yield opened
    opened.close()


@pytest.fixture
def opened(backend: Backend, tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """A function that opens runtimes for one test; they are closed after it."""
    with ExitStack() as stack:

        def open_one(**options: object) -> Runtime:
            runtime = backend.open(tmp_path, **options)  # type: ignore[arg-type]  # as `Backend.open` names them
            stack.callback(runtime.close)
            return runtime

        yield open_one
