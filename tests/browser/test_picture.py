"""A picture on the page: its skeleton, the list of people, downloads, and files that are no pictures."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

from PIL import Image

from engines.skeletons.definition import define
from service.formats.table import read_table
from tests.browser.chromium import Page, browse, needs_chromium
from tests.keypoint_models import HEIGHT, SCREWDRIVER, WIDTH, points
from tests.servers import ServerProcess
from tests.waiting import until

pytestmark = needs_chromium

DONE = "document.querySelector('#status').dataset.state === 'live'"


def is_drawn(x: float, y: float) -> str:
    """An expression: whether something is drawn at a pixel of the picture."""
    return f"""(() => {{
        const overlay = document.querySelector("#overlay");
        const [x, y] = [{x / WIDTH} * overlay.width, {y / HEIGHT} * overlay.height].map(Math.round);
        return overlay.getContext("2d").getImageData(x, y, 1, 1).data[3] > 200;
    }})()"""


async def drop(page: Page, name: str, kind: str, content: bytes) -> None:
    """Drop a file on the page, as from the desktop."""
    await page.evaluate(f"""(() => {{
        const bytes = Uint8Array.from(atob({base64.b64encode(content).decode()!r}), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], {name!r}, {{type: {kind!r}}}));
        for (const type of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(
                new DragEvent(type, {{dataTransfer: transfer, bubbles: true, cancelable: true}}));
    }})()""")


def test_a_picture_gets_its_skeleton_and_can_be_downloaded(
    server: ServerProcess, picture: Path, tmp_path: Path
) -> None:
    async def scenario() -> list[str]:
        async with browse(server.url) as page:
            await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
            await page.shown("#empty")
            await page.choose("#file", picture)
            await page.wait(DONE)
            await page.shown("#empty", visible=False)
            assert "Person 1" in await page.text("#people-rows")
            for x, y in points("tool"):
                assert await page.evaluate(is_drawn(x, y))
            assert not await page.evaluate(is_drawn(3, 3))
            for button, name in (("json", "posewire.json"), ("csv", "posewire.csv"), ("picture", "posewire.png")):
                await page.click("#download")
                await page.click(f"#save-{button}")
                await until((tmp_path / name).is_file)
            await page.evaluate("document.querySelector('#settings').model.value = 'hand'")
            await page.evaluate(
                "document.querySelector('#settings').model.dispatchEvent(new Event('change', {bubbles: true}))"
            )
            assert "model=hand" in await page.evaluate("location.hash")
            await page.wait(DONE)
            await page.wait(is_drawn(*points("hand")[7]))
            return page.complaints

    assert asyncio.run(scenario()) == []
    document = json.loads((tmp_path / "posewire.json").read_text("utf-8"))
    assert (document["width"], document["model"], document["keypoints"]) == (WIDTH, "tool", list(SCREWDRIVER))
    table = read_table(tmp_path / "posewire.csv", {"screwdriver": define("screwdriver", SCREWDRIVER)})
    assert len(table.frames) == 1
    with Image.open(tmp_path / "posewire.png") as drawn, Image.open(picture) as plain:
        assert drawn.size == plain.size
        x, y = points("tool")[1].astype(int).tolist()
        assert drawn.convert("RGB").getpixel((x, y)) != plain.convert("RGB").getpixel((x, y))
        assert drawn.convert("RGB").getpixel((2, 2)) == plain.convert("RGB").getpixel((2, 2))


def test_files_that_are_no_pictures_are_named_and_dropped_pictures_are_shown(
    server: ServerProcess, picture: Path
) -> None:
    jpeg = picture.read_bytes()

    async def scenario() -> list[str]:
        async with browse(server.url) as page:
            await page.wait("document.querySelector('#settings').model.options.length === 3")
            await drop(page, "torn.png", "image/png", b"\x89PNG torn")
            await page.said("#notice", "torn.png cannot be opened")
            await drop(page, "words.txt", "text/plain", b"no picture")
            await page.said("#notice", "words.txt cannot be opened")
            await drop(page, "a.jpg", "image/jpeg", jpeg)
            await page.wait(DONE)
            assert "Person 1" in await page.text("#people-rows")
            await page.shown("#notice", visible=False)
            return page.complaints

    assert [line for line in asyncio.run(scenario()) if "blob:" not in line] == []
