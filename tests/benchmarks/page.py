"""The page in Chromium: how soon it is there, and how long a camera's picture takes to have its skeleton on the screen.

The server's networks take no time, so the figures are those of the page, the connection and the rest of the server. The
browser draws without a GPU, and shares the cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.report import Row, machine, table
from tests.browser.chromium import CAMERA, CHROMIUM, Page, browse
from tests.browser.link import link
from tests.graphs import save_detector_graph
from tests.keypoint_models import keypoint_models
from tests.pictures import encoded, photo
from tests.servers import ServerProcess

_PAINTED = """new Promise((resolve) => new PerformanceObserver((list) => {
    const entry = list.getEntriesByName("first-contentful-paint")[0];
    if (entry) resolve(entry.startTime);
}).observe({type: "paint", buffered: true}))"""
_DELAY = "parseFloat(document.querySelector('#figure-delay').textContent)"
_FPS = "parseFloat(document.querySelector('#figure-fps').textContent)"
_WARM_UP_S = 10.0
_WATCH = """(() => {
    const now = () => performance.timeOrigin + performance.now(), frames = (window.frames_ = new Map());
    const about = (time, what) => frames.set(time, {...frames.get(time), ...what});
    const callback = HTMLVideoElement.prototype.requestVideoFrameCallback;
    HTMLVideoElement.prototype.requestVideoFrameCallback = function (act) {
        return callback.call(this, (at, metadata) => {
            about(performance.timeOrigin + (metadata.captureTime ?? at), {here: now()});
            act(at, metadata);
        });
    };
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        if (data instanceof Uint8Array) about(new DataView(data.buffer).getFloat64(0), {sent: now()});
        return send.call(this, data);
    };
    const onmessage = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
    Object.defineProperty(WebSocket.prototype, "onmessage", {...onmessage, set(act) {
        onmessage.set.call(this, (event) => {
            const {type, timestamp, age_ms} = JSON.parse(event.data);
            if (type === "result") about(timestamp, {answered: now(), age: age_ms});
            act.call(this, event);
        });
    }});
})()"""
"""Notes when each frame of the camera reaches the page, is sent, and is answered."""
_PARTS = """(() => {
    const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
    const all = [...frames_].map(([time, frame]) => ({time, ...frame})).filter((frame) => frame.here && frame.answered);
    const parts = {
        "from the camera": (frame) => frame.here - frame.time, "encoded": (frame) => frame.sent - frame.here,
        "server": (frame) => frame.age, "network and browser": (frame) => frame.answered - frame.sent - frame.age,
        "until the result": (frame) => frame.answered - frame.time,
    };
    return Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, median(all.map(part))]));
})()"""
"""The medians of these in milliseconds. The rest of the time, the result waits until it is drawn."""


async def cold(url: str, times: int) -> Row:
    """Open the page with new profiles."""
    painted, ready = [], []
    for _ in range(times):
        async with browse(url) as page:
            painted.append(await page.evaluate(_PAINTED))
            await page.wait("document.querySelector('#settings').model.options.length === 3")
            ready.append(max(await page.evaluate("performance.getEntriesByType('resource').map((r) => r.responseEnd)")))
    return {
        "what": "cold page",
        "first picture, ms": round(statistics.median(painted)),
        "all loaded, ms": round(statistics.median(ready)),
    }


async def live(server: ServerProcess, camera: Path, delay: float, minutes: float) -> Row:
    """Stream the camera through a network, and read the page's figures every second. delay: seconds a direction."""
    shown = (*CAMERA, f"--use-file-for-fake-video-capture={camera}")
    async with link(server.port, delay) as way, browse(f"http://127.0.0.1:{way.port}", options=shown) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        await page.call("Page.reload")
        await page.wait("window.frames_ && document.querySelector('#settings')?.model.options.length === 3")
        await page.click("#start-camera")
        await page.wait(f"{_DELAY} > 0")
        await asyncio.sleep(_WARM_UP_S)
        delays, rates, heaps = [], [], []
        parts = dict[str, float]()
        for second in range(round(60 * minutes)):
            await asyncio.sleep(1)
            if second % 30 == 29:
                parts = await page.evaluate(_PARTS)
                await page.evaluate("frames_.clear()")  # they are no growth of the page's own
            delays.append(await page.evaluate(_DELAY))
            rates.append(await page.evaluate(_FPS))
            if second % 30 == 0:
                heaps.append(await _heap(page))
        part = max(1, len(delays) // 5)
        return {
            "what": f"camera, network of {2e3 * delay:.0f} ms there and back",
            "results/s": round(statistics.median(rates), 1),
            "camera to skeleton, ms": round(statistics.median(delays), 1),
            "in the first and last fifth": f"{statistics.median(delays[:part])}, {statistics.median(delays[-part:])}",
            **{f"{name}, ms": round(part, 1) for name, part in parts.items()},
            "heap after collection, MB": f"{heaps[0]:.1f}, {heaps[-1]:.1f}",
        }


async def _heap(page: Page) -> float:
    await page.call("HeapProfiler.collectGarbage")
    usage: dict[str, Any] = await page.call("Runtime.getHeapUsage")
    return float(usage["usedSize"]) / 1e6


def measure(minutes: float) -> list[Row]:
    """Measure with a server of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogue = keypoint_models(folder)
        save_detector_graph(folder / "one.xml", [(40, 40, 200, 280, 0.9)])
        camera = folder / "camera.mjpeg"
        wall = photo(1280 + 30 * 4, 720)
        pans = [4 * abs(n - 30) for n in range(60)]  # there and back, so that the film has no jump
        camera.write_bytes(b"".join(encoded(wall.crop((x, 0, x + 1280, 720)), quality=85) for x in pans))
        with ServerProcess("--model", "tool,hand,whole", catalogue=catalogue) as server:
            rows = [asyncio.run(cold(server.url, 5))]
            for delay, span in ((0.005, minutes), (0.01, min(1.0, minutes))):
                rows.append(asyncio.run(live(server, camera, delay, span)))
    return rows


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the camera is streamed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    if CHROMIUM is None:
        print("needs a browser: apt-get install chromium", file=sys.stderr)
        return 2
    rows = measure(options.minutes)
    print(machine())
    print("\n\n".join(table([row]) for row in rows))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
