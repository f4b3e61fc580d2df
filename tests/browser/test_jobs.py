"""Whole videos on the page: upload, progress, the drawn result with its data, and deletion."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.browser.chromium import browse, needs_chromium
from tests.servers import ServerProcess
from tests.waiting import until

pytestmark = needs_chromium

LOADED = "document.querySelector('#settings').model.options.length === 3"


def takes_videos(server: ServerProcess) -> bool:
    return httpx.get(f"{server.url}/videos").status_code != 404


def test_a_video_becomes_a_job_and_its_result_is_played(server: ServerProcess, video: Path, tmp_path: Path) -> None:
    if not takes_videos(server):
        pytest.skip("this server takes no video jobs")

    async def scenario() -> list[str]:
        async with browse(server.url) as page:
            await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
            await page.wait(LOADED)
            await page.shown("#jobs-panel")
            await page.choose("#job-file", video)
            await page.said("#jobs", "clip.webm\ndone")
            await page.click("[aria-label='Play clip.webm']")
            await page.said("#job-player", "1 person")
            await page.wait("document.querySelector('#job-player video').currentTime > 0.5")
            await page.click("[aria-label='Download CSV']")
            await until((tmp_path / "clip.webm.csv").is_file)
            await page.click("[aria-label='Delete clip.webm']")
            await page.shown("#job-player", visible=False)
            await page.wait("document.querySelector('#jobs').children.length === 0")
            return page.complaints

    assert asyncio.run(scenario()) == []
    assert (tmp_path / "clip.webm.csv").read_text("utf-8").startswith("frame,time,person,id,")


def test_a_file_that_is_no_video_is_refused_with_words(server: ServerProcess, tmp_path: Path) -> None:
    if not takes_videos(server):
        pytest.skip("this server takes no video jobs")
    text = tmp_path / "clip.mp4"
    text.write_text("no video", "utf-8")

    async def scenario() -> None:
        async with browse(server.url) as page:
            await page.wait(LOADED)
            await page.choose("#job-file", text)
            await page.wait("document.body.innerText.match(/was not taken|failed:/)")

    asyncio.run(scenario())


def test_without_video_jobs_the_page_does_not_mention_them(models: Path) -> None:
    async def scenario(server: ServerProcess) -> None:
        async with browse(server.url) as page:
            await page.wait("document.querySelector('#settings').model.value === ''")
            await page.shown("#jobs-panel", visible=False)

    with ServerProcess("--model", "tool", catalogue=models, environment={"max_videos": 0}) as server:
        assert not takes_videos(server)
        asyncio.run(scenario(server))
