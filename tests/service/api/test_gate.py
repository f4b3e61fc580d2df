"""What a request meets first: how much one client may ask of the event loop."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.api.app import create_app
from service.api.gate import RequestMiddleware
from service.api.problems import ApiError
from service.api.state import ServerState
from service.config import Settings


class Story:
    """A gate before an empty app, at a moment that lasts. waits: the seconds for which somebody was made to wait.

    problem: what POST /pose answers with, unless the request says that it is good.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.problem = ApiError("not-an-image", "this is none")
        app = FastAPI()
        app.get("/livez")(lambda: None)
        app.get("/metrics")(lambda: None)
        state: ServerState = create_app(Settings(), lambda _: pytest.fail("nothing is opened")).app.state.server
        self.gate = RequestMiddleware(app, state, {("POST", "/pose"): self._pose}, clock=lambda: 0.0, sleep=self._sleep)

    async def ask(self, method: str, path: str, times: int, *, client: str = "10.0.0.1", good: bool = False) -> None:
        transport = httpx.ASGITransport(self.gate, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as opened:
            for _ in range(times):
                await opened.request(method, path, headers={"good": "yes"} if good else {})

    async def _pose(self, _: ServerState, request: Request) -> Response:
        if request.headers.get("good"):
            return Response()
        raise self.problem

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def test_a_client_that_asks_too_much_waits_and_nobody_else_does() -> None:
    story = Story()
    asyncio.run(story.ask("GET", "/livez", 250))
    assert story.waits == []
    asyncio.run(story.ask("GET", "/livez", 5))
    assert story.waits == [1.0] * 5
    asyncio.run(story.ask("GET", "/livez", 5, client="10.0.0.2"))
    assert len(story.waits) == 5


def test_what_takes_longer_costs_more() -> None:
    story = Story()
    asyncio.run(story.ask("GET", "/metrics", 13))
    assert len(story.waits) == 1


def test_images_cost_nothing_and_bad_ones_do() -> None:
    story = Story()
    asyncio.run(story.ask("POST", "/pose", 1_100, good=True))
    assert story.waits == []
    asyncio.run(story.ask("POST", "/pose", 251))
    assert len(story.waits) == 1


def test_a_refusal_for_overload_costs_as_much_as_four_cheap_requests() -> None:
    story = Story()
    story.problem = ApiError("overloaded", "there is no room")
    asyncio.run(story.ask("POST", "/pose", 63))
    assert len(story.waits) == 1
