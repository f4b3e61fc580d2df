"""The camera and video files on the page: people, zones, lines, figures, and cameras that cannot be opened."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.browser.chromium import CAMERA, Page, browse, needs_chromium
from tests.servers import ServerProcess

pytestmark = needs_chromium

LIVE = "document.querySelector('#status-text').textContent === 'Live'"
SOMEBODY = "document.querySelector('#people-rows').innerText.includes('Person 1')"
DRAWN = """(() => {
    const {width, height} = document.querySelector("#overlay");
    const {data} = document.querySelector("#overlay").getContext("2d").getImageData(0, 0, width, height);
    return data.some((value) => value);
})()"""


async def settings_of(page: Page) -> dict[str, str]:
    fragment = await page.evaluate("location.hash.slice(1)")
    return {name: values[0] for name, values in parse_qs(fragment).items()}


def test_the_camera_is_streamed_and_zones_and_lines_are_drawn(server: ServerProcess, camera: tuple[str, ...]) -> None:
    async def scenario() -> list[str]:
        async with browse(f"{server.url}/#mirror=0&detect_every=0&model=person", options=camera) as page:
            await page.wait("document.querySelector('#settings').model.options.length === 3")
            await page.click("#start-camera")
            await page.wait(f"{LIVE} && {SOMEBODY} && {DRAWN}")
            await page.click("#add-zone")  # with the mouse: the whole picture
            for x, y in ((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)):
                await page.click("#overlay", x=x, y=y)
            await page.said("#events", "Person 1 entered Zone 1")
            assert "1 inside, 1 entered" in await page.text("#regions")
            await page.click("#add-line")  # with the keyboard
            await page.press("ArrowLeft", " ", "ArrowDown", "ArrowDown", " ")
            shared = await settings_of(page)
            [zone], [line] = json.loads(shared["zones"]), json.loads(shared["lines"])
            assert (zone["name"], len(zone["polygon"])) == ("Zone 1", 4)
            assert (line["start"], line["end"]) == ([0.49, 0.5], [0.49, 0.52])
            await page.wait(f"{LIVE} && {SOMEBODY}")
            await page.wait("Number(document.querySelector('#figure-fps').textContent) > 0")
            assert "networks" in await page.text("#split-legend")
            await page.click("[aria-label='Remove Line 1']")
            assert "lines" not in await settings_of(page)
            await page.click("#camera")
            await page.shown("#empty")
            return page.complaints

    assert asyncio.run(scenario()) == []


def test_a_video_plays_with_its_people_and_can_be_paused(server: ServerProcess, video: Path) -> None:
    async def scenario() -> list[str]:
        async with browse(server.url) as page:
            await page.choose("#file", video)
            await page.wait(f"{LIVE} && {SOMEBODY} && {DRAWN}")
            await page.click("#play")
            await page.wait("document.querySelector('#play').textContent === 'Play'")
            await asyncio.sleep(1)  # longer than people are shown without a newer result
            assert await page.evaluate(DRAWN)
            await page.click("#play")
            await page.wait("document.querySelector('#play').textContent === 'Play again'")
            assert await page.text("#clock") == "0:03 / 0:03"
            return page.complaints

    assert asyncio.run(scenario()) == []


def test_a_video_plays_on_a_page_that_is_not_secure(server: ServerProcess, video: Path) -> None:
    async def scenario() -> list[str]:
        options = ("--host-resolver-rules=MAP posewire.example 127.0.0.1",)
        async with browse(f"http://posewire.example:{server.port}", options=options) as page:
            assert not await page.evaluate("isSecureContext")
            await page.choose("#file", video)
            await page.wait(f"{LIVE} && {SOMEBODY} && {DRAWN}")
            return page.complaints

    assert asyncio.run(scenario()) == []


@pytest.mark.parametrize("case", ["blocked", "missing", "insecure"])
def test_words_for_a_camera_that_cannot_be_opened(case: str, server: ServerProcess) -> None:
    async def scenario() -> str:
        options = {
            "blocked": ("--use-fake-device-for-media-stream", "--deny-permission-prompts"),
            "missing": ("--use-fake-device-for-media-stream=device-count=0", CAMERA[1]),
            "insecure": (*CAMERA, "--host-resolver-rules=MAP camera.example 127.0.0.1"),
        }
        host = "camera.example" if case == "insecure" else "127.0.0.1"
        async with browse(f"http://{host}:{server.port}", options=options[case]) as page:
            await page.wait("document.querySelector('#settings').model.options.length === 3")
            await page.click("#start-camera")
            await page.shown("#notice")
            return await page.text("#notice-text")

    words = {"blocked": "blocked the camera", "missing": "No camera was found", "insecure": "only to secure pages"}
    assert words[case] in asyncio.run(scenario())
