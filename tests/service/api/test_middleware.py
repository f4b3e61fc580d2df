"""The outermost middleware: the delay of clients that take too much of the event loop, and log lines."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.api.app import create_app
from service.api.middleware import RequestMiddleware
from service.api.problems import ApiError
from service.api.state import ServerState
from service.config import Settings
from tests.servers import ServerProcess
from tests.waiting import wait_for


class Scenario:
    """The middleware around an empty app. now: the time of its clock. delays: seconds of each delayed request.

    problem: the error of POST /pose, unless the request has the header `good`.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.delays: list[float] = []
        self.problem = ApiError("not-an-image", "this is none")
        app = FastAPI()
        app.get("/livez")(lambda: None)
        app.get("/metrics")(lambda: None)
        state: ServerState = create_app(Settings(), lambda _: pytest.fail("nothing is opened")).app.state.server
        self.middleware = RequestMiddleware(
            app, state, {("POST", "/pose"): self._pose}, clock=lambda: self.now, sleep=self._sleep
        )

    async def send(self, method: str, path: str, times: int, *, client: str = "10.0.0.1", good: bool = False) -> None:
        transport = httpx.ASGITransport(self.middleware, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as opened:
            for _ in range(times):
                await opened.request(method, path, headers={"good": "yes"} if good else {})

    async def _pose(self, _: ServerState, request: Request) -> Response:
        if request.headers.get("good"):
            return Response()
        raise self.problem

    async def _sleep(self, seconds: float) -> None:
        self.delays.append(seconds)


def test_a_client_over_its_budget_is_delayed_and_others_are_not() -> None:
    scenario = Scenario()
    asyncio.run(scenario.send("GET", "/livez", 500))
    assert scenario.delays == []
    asyncio.run(scenario.send("GET", "/livez", 5))
    assert scenario.delays == [1.0] * 5
    asyncio.run(scenario.send("GET", "/livez", 5, client="10.0.0.2"))
    assert len(scenario.delays) == 5


def test_expensive_paths_cost_more() -> None:
    scenario = Scenario()
    asyncio.run(scenario.send("GET", "/metrics", 26))
    assert len(scenario.delays) == 1


def test_good_images_are_free_and_bad_ones_are_not() -> None:
    scenario = Scenario()
    asyncio.run(scenario.send("POST", "/pose", 1_100, good=True))
    assert scenario.delays == []
    asyncio.run(scenario.send("POST", "/pose", 501))
    assert len(scenario.delays) == 1


def test_refusals_for_overload_are_delayed_sooner_while_others_are_served() -> None:
    scenario = Scenario()
    scenario.problem = ApiError("overloaded", "there is no room")
    asyncio.run(scenario.send("POST", "/pose", 1, client="10.0.0.2", good=True))
    asyncio.run(scenario.send("POST", "/pose", 101))
    assert len(scenario.delays) == 1
    scenario.now += 11  # the other client has left
    asyncio.run(scenario.send("POST", "/pose", 1_000))
    assert len(scenario.delays) == 1


def test_every_request_is_a_json_log_line_with_its_id(server: ServerProcess, client: httpx.Client, jpeg: bytes) -> None:
    client.post("/pose", content=jpeg, headers={"X-Request-ID": "find-me"})
    wait_for(lambda: any("find-me" in line for line in server.log))
    line = json.loads(next(line for line in server.log if "find-me" in line))
    assert (line["message"], line["status"], line["request_id"]) == ("POST /pose 200", 200, "find-me")
