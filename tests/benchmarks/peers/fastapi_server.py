"""The simplest server: one FastAPI handler that does everything, one uvicorn process, no queue.

python -m tests.benchmarks.peers.fastapi_server PORT CATALOGUE MODEL def|async
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI, Request, Response

from tests.benchmarks.peers.work import Work


def create_app(work: Work, form: str) -> FastAPI:
    """form: "def" runs in the thread pool, "async" on the event loop."""
    app = FastAPI()

    async def on_loop(request: Request) -> Response:
        return Response(work(await request.body()), media_type="application/json")

    def in_pool(photo: Annotated[bytes, Body()]) -> Response:
        return Response(work(photo), media_type="application/json")

    app.post("/pose")(in_pool if form == "def" else on_loop)
    return app


if __name__ == "__main__":
    _, port, catalogue, model, form = sys.argv
    uvicorn.run(create_app(Work(Path(catalogue), model), form), port=int(port), log_level="warning")
