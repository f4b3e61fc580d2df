"""The page on phones, in the dark, without a mouse, and for screen readers."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.browser.chromium import Page, browse, needs_chromium
from tests.servers import ServerProcess

pytestmark = needs_chromium

LIVE = "document.querySelector('#status-text').textContent === 'Live'"
SOMEBODY = "document.querySelector('#people-rows').innerText.includes('Person 1')"
LOADED = "document.querySelector('#settings').model.options.length === 3"
ZONE = '[{"name":"Zone 1","polygon":[[0,0],[1,0],[1,1]]}]'


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, which checks accessibility."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    try:
        done = subprocess.run(
            [npm, "pack", "axe-core@4.11", "--silent"], cwd=folder, capture_output=True, check=False, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("needs npm's registry, which does not answer")
    if done.returncode:
        pytest.skip(f"needs npm's registry: {done.stderr.decode()[-200:]}")
    [package] = folder.glob("*.tgz")
    with tarfile.open(package) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


async def violations(page: Page, axe: str) -> list[str]:
    """What axe finds, as `rule: element`."""
    await page.evaluate(f"{axe}; 0")
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations)")
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(dark: bool, axe: str, server: ServerProcess, camera: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with browse(f"{server.url}/#zones={ZONE}", options=camera, dark=dark) as page:
            await page.wait(LOADED)
            assert await violations(page, axe) == []
            await page.click("#start-camera")
            await page.wait(f"{LIVE} && {SOMEBODY}")
            await page.click("#add-line")
            await page.click("#download")
            assert await violations(page, axe) == []

    asyncio.run(scenario())


def test_the_page_fits_a_phone(server: ServerProcess, camera: tuple[str, ...]) -> None:
    async def scenario() -> list[str]:
        async with browse(server.url, options=camera, width=360, height=740, phone=True) as page:
            await page.wait(LOADED)
            await page.click("#start-camera")
            await page.wait(f"{LIVE} && {SOMEBODY}")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360
            small = """[...document.querySelectorAll("button, select")].filter((control) => control.checkVisibility())
                .filter((control) => control.getBoundingClientRect().height < 44).map((control) => control.outerHTML)"""
            assert await page.evaluate(small) == []
            return page.complaints

    assert asyncio.run(scenario()) == []


def test_dark_and_light_follow_the_system(server: ServerProcess) -> None:
    async def brightness(dark: bool) -> int:
        async with browse(server.url, dark=dark) as page:
            colour = await page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            return int(sum(colour[:3]))

    assert asyncio.run(brightness(dark=True)) < 150 < 600 < asyncio.run(brightness(dark=False))


def test_everything_can_be_reached_with_the_keyboard(server: ServerProcess, picture: Path) -> None:
    async def scenario() -> None:
        async with browse(server.url) as page:
            await page.wait(LOADED)
            await page.choose("#file", picture)
            await page.wait("document.querySelector('#status').dataset.state === 'live'")
            reached = []
            for _ in range(40):
                await page.press("Tab")
                reached.append(await page.evaluate("document.activeElement.id || document.activeElement.name"))
                if reached[-1] == "hide":
                    break
            expected = ("overlay", "camera", "open", "download", "share", "model", "skeleton", "smoothing", "hide")
            assert [name for name in reached if name in expected] == list(expected)
            await page.evaluate("document.querySelector('#download').focus()")
            await page.press("Enter")
            await page.shown("#download-menu")
            await page.press("Escape")
            await page.shown("#download-menu", visible=False)
            assert await page.evaluate("document.activeElement.id") == "download"

    asyncio.run(scenario())


def test_nothing_violates_the_policy(server: ServerProcess, camera: tuple[str, ...]) -> None:
    async def scenario() -> list[str]:
        async with browse(f"{server.url}/#zones={ZONE}&trails=1&boxes=1", options=camera) as page:
            await page.evaluate("""
                globalThis.reports = [];
                addEventListener("securitypolicyviolation", (event) => reports.push(event.blockedURI));
            """)
            await page.wait(LOADED)
            await page.click("#start-camera")
            await page.wait(f"{LIVE} && {SOMEBODY}")
            await page.evaluate("document.body.setAttribute('style', 'color: red')")  # proves that reports are seen
            await page.wait("reports.length === 1")
            return [line for line in page.complaints if "inline style" not in line]

    assert asyncio.run(scenario()) == []


def test_links_with_broken_settings_open_the_page(server: ServerProcess) -> None:
    broken = ("zones=[", 'zones=[{"name":1,"polygon":[[2,0]]}]', 'lines=[{"name":"a"}]', "model=none&detect_every=x")

    async def scenario() -> list[str]:
        async with browse(server.url) as page:
            for fragment in broken:
                await page.evaluate(f"location.hash = {json.dumps(fragment)}")
                await page.wait(LOADED)
            assert await page.text("#status-text") == "Ready"
            return page.complaints

    assert asyncio.run(scenario()) == []
