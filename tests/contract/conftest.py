"""Every test of the contract runs with every runtime that this machine can run."""

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
    """One that takes pixels and is shared by tests that do not close it."""
    opened = backend.open(tmp_path_factory.mktemp("contract"))
    yield opened
    opened.close()


@pytest.fixture
def opened(backend: Backend, tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """Opens runtimes of the test's own, and closes them."""
    with ExitStack() as stack:

        def open_one(**options: object) -> Runtime:
            runtime = backend.open(tmp_path, **options)  # type: ignore[arg-type]  # as `Backend.open` names them
            stack.callback(runtime.close)
            return runtime

        yield open_one
