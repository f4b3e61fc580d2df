"""What the page does and says when its connection breaks, the server restarts, is full, or requires a key."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.api.security import digest
from tests.browser.chromium import Page, browse, needs_chromium
from tests.browser.link import link
from tests.servers import ServerProcess
from tests.streaming import stream

pytestmark = needs_chromium

KEY = "a-long-random-key"
LIVE = "document.querySelector('#status-text').textContent === 'Live'"
SOMEBODY = "document.querySelector('#people-rows').innerText.includes('Person 1')"


async def start_camera(page: Page) -> None:
    await page.wait("document.querySelector('#settings').model.options.length > 0")
    await page.click("#start-camera")


def test_a_broken_connection_is_resumed_and_people_keep_their_numbers(
    server: ServerProcess, camera: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with link(server.port) as way, browse(f"http://127.0.0.1:{way.port}", options=camera) as page:
            await start_camera(page)
            await page.wait(f"{LIVE} && {SOMEBODY}")
            way.cut()
            await page.said("#notice", "Everybody has kept their number")
            await page.wait(f"{LIVE} && {SOMEBODY}")
            assert "Person 2" not in await page.text("#people-rows")

    asyncio.run(scenario())


def test_the_page_continues_when_the_server_has_restarted(models: Path, camera: tuple[str, ...]) -> None:
    async def scenario() -> None:
        first = await asyncio.to_thread(ServerProcess("--model", "tool", catalogue=models).__enter__)
        try:
            async with browse(first.url, options=camera) as page:
                await start_camera(page)
                await page.wait(f"{LIVE} && {SOMEBODY}")
                first.process.kill()
                await asyncio.to_thread(first.__exit__)
                await page.wait("document.querySelector('#status-text').textContent === 'Reconnecting'")
                again = ServerProcess("--model", "tool", catalogue=models, port=first.port)
                await asyncio.to_thread(again.__enter__)
                try:
                    await page.said("#notice", "people get new numbers")
                    await page.wait(f"{LIVE} && {SOMEBODY}")
                finally:
                    await asyncio.to_thread(again.__exit__)
        finally:
            first.process.kill()

    asyncio.run(scenario())


def test_the_page_asks_for_a_key_until_it_is_right(models: Path, camera: tuple[str, ...]) -> None:
    async def scenario(server: ServerProcess) -> None:
        async with browse(server.url, options=camera) as page:
            await page.said("#notice", "asks for an API key")
            for key, answer in (("guess", "does not know this API key"), (KEY, "")):
                await page.evaluate(f"document.querySelector('#key').value = {key!r}")
                await page.click("#key-form button")
                if answer:
                    await page.said("#notice", answer)
            await page.wait("document.querySelector('#settings').model.value === ''")
            await start_camera(page)
            await page.wait(f"{LIVE} && {SOMEBODY}")
            assert KEY not in await page.evaluate("location.href")
            assert await page.evaluate("localStorage.length") == 0

    with ServerProcess("--model", "tool", catalogue=models, environment={"api_keys": digest(KEY)}) as server:
        asyncio.run(scenario(server))


def test_a_full_server_is_named_and_the_page_waits_for_a_place(models: Path, camera: tuple[str, ...]) -> None:
    async def scenario(server: ServerProcess) -> None:
        async with browse(server.url, options=camera) as page:
            async with stream(server.port):
                await start_camera(page)
                await page.said("#notice", "server is full")
                assert await page.text("#status-text") == "Waiting for a place"
            await page.wait(f"{LIVE} && {SOMEBODY}")
            assert await page.evaluate("document.querySelector('#notice').innerText.includes('full')") is False

    environment = {"max_streams": 1, "client_share": 1}
    with ServerProcess("--model", "tool", catalogue=models, environment=environment) as server:
        asyncio.run(scenario(server))
