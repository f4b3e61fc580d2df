"""The server's cameras on the page: their list, one of them live, pauses by admins, and what is said without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.security import digest
from tests.browser.chromium import Page, browse, needs_chromium
from tests.browser.test_camera import DRAWN
from tests.camera_servers import HttpCamera
from tests.keypoint_models import HEIGHT, WIDTH
from tests.servers import ServerProcess

pytestmark = needs_chromium

KEY = "a-long-random-key"
ENTRIES = """
[cameras.door]
source = "{url}"
model = "person"

[[cameras.door.zones]]
name = "hall"
polygon = [[0.02, 0.02], [0.98, 0.02], [0.98, 0.98], [0.02, 0.98]]

[[cameras.door.lines]]
name = "sill"
start = [0.1, 0.9]
end = [0.9, 0.9]

[cameras.dark]
source = "http://127.0.0.1:9/video.mjpg"
"""
STATUS = "document.querySelector('#status-text').textContent"
SEEN = """(() => {
    const {width, height} = document.querySelector("#picture");
    const {data} = document.querySelector("#picture").getContext("2d").getImageData(0, 0, width || 1, height || 1);
    return data.some((value, n) => n % 4 < 3 && value);
})()"""
"""Whether there is a picture below the skeletons."""


@pytest.fixture(scope="module")
def camera() -> Iterator[HttpCamera]:
    with HttpCamera() as running:
        running.size = (WIDTH, HEIGHT)
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, models: Path, camera: HttpCamera) -> Iterator[ServerProcess]:
    """A server with two cameras, whose only key is an admin's."""
    file = tmp_path_factory.mktemp("cameras") / "cameras.toml"
    file.write_text(ENTRIES.format(url=camera.url), "utf-8")
    environment = {"cameras": file, "api_keys": f"admin:{digest(KEY)}"}
    with ServerProcess("--model", "tool,person", catalogue=models, environment=environment) as running:
        yield running


async def enter_key(page: Page) -> None:
    await page.shown("#key-form")
    await page.evaluate(f"document.querySelector('#key').value = {KEY!r}")
    await page.click("#key-form button")
    await page.shown("#server-cameras-panel")


def test_a_camera_is_watched_paused_and_resumed(guarded: ServerProcess, camera: HttpCamera, tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        async with browse(guarded.url, height=1400) as page:
            await enter_key(page)
            await page.said("#server-cameras", "door")
            await page.wait("/dark\\s+is (lost|connecting)/.test(document.querySelector('#server-cameras').innerText)")
            await page.wait("/frames a second, 1 person/.test(document.querySelector('#server-cameras').innerText)")
            await page.evaluate("document.querySelector('[aria-label=\"Watch door\"]').focus()")
            await page.press("Enter")  # with the keyboard
            await page.wait(f"{STATUS} === 'Live' && {SEEN} && {DRAWN}")
            await page.said("#people-rows", "Person 1")
            await page.said("#regions", "inside")
            assert await page.evaluate(
                "[...document.querySelectorAll('#regions input')].every((name) => name.disabled)"
            )
            await page.wait("Number(document.querySelector('#figure-fps').textContent) > 0")
            await page.screenshot(tmp_path / "watched.png")
            await page.click("[aria-label='Pause door']")
            await page.wait(f"{STATUS} === 'door is paused'")
            await page.said("#notice-text", "The camera door is paused")
            await page.click("[aria-label='Resume door']")
            await page.wait(f"{STATUS} === 'Live'")
            await page.shown("#notice", visible=False)
            camera.mode = "die"
            await page.said("#notice-text", "The camera door is lost and tried again by itself: ")
            camera.mode = "play"
            await page.wait(f"{STATUS} === 'Live'")
            await page.click("[aria-label='Watch door']")
            await page.shown("#empty")
            assert await page.evaluate("document.querySelectorAll('#regions li').length") == 0
            return page.complaints

    try:
        complaints = asyncio.run(scenario())
    finally:
        camera.mode = "play"
    assert [text for text in complaints if "401" not in text and "503" not in text] == []


def test_a_phone_shows_a_camera_too_and_a_camera_without_a_picture_says_why(guarded: ServerProcess) -> None:
    async def scenario() -> None:
        async with browse(guarded.url, width=390, height=844, phone=True, dark=True) as page:
            await enter_key(page)
            await page.click("[aria-label='Watch dark']")
            await page.wait("/The camera dark is (lost|connecting)/.test(document.querySelector('#notice').innerText)")
            await page.click("[aria-label='Watch door']")
            await page.wait(f"{STATUS} === 'Live' && {SEEN} && {DRAWN}")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    asyncio.run(scenario())


def test_without_cameras_the_page_says_how_they_are_added(server: ServerProcess) -> None:
    async def scenario() -> list[str]:
        async with browse(server.url) as page:
            await page.said("#server-cameras-panel", "There are none")
            assert "Pause" not in await page.text("#server-cameras-panel")
            return page.complaints

    assert asyncio.run(scenario()) == []
