"""The web server for these tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.engines.catalogue.fetch.publisher import Publisher


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()
