"""A real headless browser: Chromium, controlled over its DevTools protocol.

No library: the few calls that tests need are messages on a websocket, and the browser is the distribution's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.waiting import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")

_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
    "--disable-background-networking", "--disable-component-update",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a camera that shows a test card
)  # fmt: skip


class Page:
    """A page of the browser. complaints: errors in its console."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._calls = 0

    async def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression. Promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a DevTools method."""
        self._calls += 1
        number = self._calls
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"]["exception"]["description"])


@asynccontextmanager
async def browse(url: str) -> AsyncIterator[Page]:
    """Open the page at `url` in a browser with a new profile."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        port = Path(profile) / "DevToolsActivePort"
        quiet = subprocess.DEVNULL
        browser = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"], stdout=quiet, stderr=quiet
        )
        try:
            await until(lambda: port.is_file() and port.read_text("utf-8").count("\n") >= 1)
            async with httpx.AsyncClient() as client:
                targets = (await client.get(f"http://127.0.0.1:{port.read_text('utf-8').split()[0]}/json/list")).json()
            address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
            async with connect(address, max_size=None, compression=None) as socket:
                page = Page(socket)
                await page.call("Runtime.enable")
                await page.call("Page.navigate", url=url)
                yield page
        finally:
            browser.terminate()
            browser.wait(20)
