"""A real headless browser: Chromium, controlled over its DevTools protocol.

No library: the few calls that tests need are messages on a websocket, and the browser is the distribution's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.waiting import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")

_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Options for a camera that shows a test card, and that every page may use."""
_TIMEOUT_S = 60.0
_POLL_S = 0.05


class Page:
    """A page of the browser. complaints: its exceptions, and what the browser has logged as errors."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.ensure_future(self._read())

    async def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression. Promises are awaited."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = await self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait(self, expression: str) -> Any:
        """Evaluate an expression again and again until it is true. Returns its value."""
        loop = asyncio.get_running_loop()
        stop = loop.time() + _TIMEOUT_S
        while not (value := await self.evaluate(expression)):
            seen = await self.evaluate("document.body?.innerText.slice(0, 2000)")
            assert loop.time() < stop, f"{expression} did not come true; {self.complaints}\n{seen}"
            await asyncio.sleep(_POLL_S)
        return value

    async def shown(self, selector: str, *, visible: bool = True) -> None:
        """Wait until an element is visible, or is not."""
        await self.wait(f"document.querySelector({selector!r}).checkVisibility() === {str(visible).lower()}")

    async def said(self, selector: str, words: str) -> None:
        """Wait until these words are to be read in an element."""
        await self.wait(f"document.querySelector({selector!r}).innerText.includes({words!r})")

    async def text(self, selector: str) -> str:
        """Return what is to be read in an element."""
        return str(await self.evaluate(f"document.querySelector({selector!r}).innerText"))

    async def click(self, selector: str, *, x: float = 0.5, y: float = 0.5) -> None:
        """Click with the mouse on an element once it is visible. x, y: where, as fractions of its width and height."""
        place = f"""(() => {{
            const element = document.querySelector({selector!r});
            element?.scrollIntoView({{block: "center"}});
            const {{left, top, width, height}} = element?.getBoundingClientRect() ?? {{}};
            return width * height > 0 && [left + {x} * width, top + {y} * height];
        }})()"""
        left, top = await self.wait(place)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left", clickCount=1)

    async def press(self, *keys: str) -> None:
        """Press keys, by their names such as `Tab`, one after the other."""
        for key in keys:
            named = {"key": key, "code": "Space" if key == " " else key, **_KEYS.get(key, {})}
            await self.call("Input.dispatchKeyEvent", type="keyDown", **named)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        document = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(file) for file in files])

    async def screenshot(self, path: Path) -> None:
        """Save what the page looks like as a PNG."""
        picture = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))  # noqa: ASYNC240 - nothing else waits

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a DevTools method."""
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(_TIMEOUT_S):
            message = await answer
        assert "error" not in message, (method, message["error"])
        return message["result"]

    async def _read(self) -> None:
        try:
            async for data in self._socket:
                message = json.loads(data)
                if "id" in message:
                    self._answers[message["id"]].set_result(message)
                else:
                    self.complaints += _complaints(message.get("method"), message.get("params", {}))
        except ConnectionClosed:
            return


_KEYS: dict[str, dict[str, Any]] = {
    " ": {"text": " ", "windowsVirtualKeyCode": 32},
    "Enter": {"text": "\r", "windowsVirtualKeyCode": 13},
    "Tab": {"windowsVirtualKeyCode": 9},
    "Escape": {"windowsVirtualKeyCode": 27},
    "Backspace": {"windowsVirtualKeyCode": 8},
}


def _complaints(method: str | None, parameters: dict[str, Any]) -> list[str]:
    """Return what an event of the browser complains about."""
    match method:
        case "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            return [str(details.get("exception", {}).get("description") or details["text"])]
        case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
            return [" ".join(str(part.get("value", part.get("description"))) for part in parameters["args"])]
        case "Log.entryAdded" if parameters["entry"]["level"] == "error":
            entry = parameters["entry"]
            asked_for_jobs = entry.get("url", "").endswith("/videos")  # of a server that takes none
            return [] if asked_for_jobs else [f"{entry['text']} {entry.get('url', '')}"]
    return []


@asynccontextmanager
async def browse(
    url: str,
    *,
    options: Sequence[str] = CAMERA,
    width: int = 1280,
    height: int = 800,
    phone: bool = False,
    dark: bool = False,
) -> AsyncIterator[Page]:
    """Open the page at `url` in a browser with a new profile.

    options: of Chromium's command line. width, height: of the window, CSS pixels. phone: with touch and a dense screen.
    """
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        port = Path(profile) / "DevToolsActivePort"
        quiet = subprocess.DEVNULL
        browser = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [CHROMIUM, *_OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"], stdout=quiet, stderr=quiet
        )
        try:
            await until(lambda: port.is_file() and port.read_text("utf-8").count("\n") >= 1)
            async with httpx.AsyncClient() as client:
                targets = (await client.get(f"http://127.0.0.1:{port.read_text('utf-8').split()[0]}/json/list")).json()
            address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
            async with connect(address, max_size=None, compression=None) as socket:
                page = Page(socket)
                for domain in ("Runtime", "Log", "Page"):
                    await page.call(f"{domain}.enable")
                size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
                await page.call("Emulation.setDeviceMetricsOverride", **size)
                await page.call("Emulation.setTouchEmulationEnabled", enabled=phone)
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                await page.call("Emulation.setEmulatedMedia", features=[scheme])
                await page.call("Page.navigate", url=url)
                await page.wait("location.href !== 'about:blank' && document.readyState === 'complete'")
                yield page
        finally:
            browser.terminate()
            browser.wait(20)
