"""The yardstick: a queue without promises. Bare ASGI on uvicorn, one deque, threads that run requests to completion.

No batches, deadlines, fairness, limits or metrics: what Posewire takes beyond this is the price of those.
python -m tests.benchmarks.peers.plain_queue PORT CATALOGUE MODEL THREADS
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from pathlib import Path

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from tests.benchmarks.peers.work import Work

_HEADERS = [(b"content-type", b"application/json")]
Request = tuple[bytes, asyncio.Future[bytes]]


class PlainQueue:
    """An ASGI application. Any thread takes the oldest request, and posts its answer back to the event loop."""

    def __init__(self, work: Work, threads: int) -> None:
        self._work = work
        self._waiting: deque[Request] = deque()
        self._count = threading.Semaphore(0)
        for number in range(threads):
            threading.Thread(target=self._run, name=f"plain-queue-{number}", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            return
        message: Message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        answer = b""
        if body:
            answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append((body, answered))
            self._count.release()
            answer = await answered
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, length]})
        await send({"type": "http.response.body", "body": answer})

    def _run(self) -> None:
        while True:
            self._count.acquire()
            body, answered = self._waiting.popleft()
            answered.get_loop().call_soon_threadsafe(answered.set_result, self._work(body))


if __name__ == "__main__":
    _, port, catalogue, model, threads = sys.argv
    app = PlainQueue(Work(Path(catalogue), model), int(threads))
    uvicorn.run(app, port=int(port), log_level="warning", lifespan="off", access_log=False)
