"""A network that hangs makes /readyz fail within seconds, but not /livez. When it returns, /readyz recovers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from numpy.typing import NDArray

from engines.catalogue import load
from engines.inputs import Arrays
from service.api.app import create_app
from service.batching import BatchObserver
from service.config import Settings
from service.inference.model_registry import Serving, open_serving


class HangingNetwork:
    """Wraps the network of a pipeline, and can make it hang."""

    def __init__(self, serving: Serving) -> None:
        self.go = threading.Event()
        self.go.set()
        stage = serving.default.pipeline.stages[-1]
        self._run = stage.runtime.run
        stage.runtime.run = self.run  # type: ignore[method-assign]

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        self.go.wait(30)
        return self._run(feeds)


@asynccontextmanager
async def served(catalogue: Path, settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, HangingNetwork]]:
    """A client of a server in this process, and the server's network."""
    networks: list[HangingNetwork] = []

    def open_models(observer: BatchObserver) -> Serving:
        serving = open_serving(load([catalogue]), ["tiny"], settings, observer)
        networks.append(HangingNetwork(serving))
        return serving

    app = create_app(settings, open_models)
    async with (
        app.app.router.lifespan_context(app.app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client, networks[0]


def test_a_hung_network_makes_the_server_unready_until_it_returns(catalogue: Path, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with served(catalogue, Settings(hang_seconds=0.3, model=("tiny",))) as (client, network):
            assert (await client.get("/readyz")).status_code == 200
            network.go.clear()
            hanging = asyncio.create_task(client.post("/pose?timeout_ms=20000", content=jpeg))
            await until(client, 503)
            unready = (await client.get("/readyz")).json()
            assert unready["status"] == "unhealthy"
            assert "tiny" in unready["detail"]
            assert (await client.get("/livez")).status_code == 200
            network.go.set()
            assert (await hanging).status_code == 200
            await until(client, 200)

    asyncio.run(scenario())


def test_a_request_whose_deadline_passes_while_a_network_hangs_gets_504(catalogue: Path, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with served(catalogue, Settings(model=("tiny",))) as (client, network):
            network.go.clear()
            answer = await client.post("/pose?timeout_ms=200", content=jpeg)
            network.go.set()
            assert answer.status_code == 504
            assert answer.json()["type"] == "/problems/deadline-passed"

    asyncio.run(scenario())


async def until(client: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(20):
        while (await client.get("/readyz")).status_code != status:  # noqa: ASYNC110 - there is no event to wait for across HTTP
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEWIRE_CONFIG", raising=False)
