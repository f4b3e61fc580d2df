"""Somebody who leaves the picture of one stream and comes into that of another, on another server, keeps the id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op
from PIL import Image

from tests.pictures import encoded
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.service.tracking.people import people
from tests.streaming import Stream, stream

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, SCORE = 192, 256, 0.9
_CATALOGUE = """
[models.lit]
role = "estimator"
family = "simcc"
skeleton = "coco-17"
source = { kind = "file", path = "." }
files = [{ path = "lit.xml" }, { path = "lit.bin" }]
input = { width = 192, height = 256 }

[models.mean]
role = "embedder"
family = "embedding"
source = { kind = "file", path = "." }
files = [{ path = "mean.xml" }, { path = "mean.bin" }]
input = { width = 16, height = 32, mean = [100, 100, 100], std = [50, 50, 50] }
options = { middle = 0.5, slope = 10 }
"""


def graphs(folder: Path) -> Path:
    """A model that sees one person in every picture that is not black, and an embedder that gives the mean colour."""

    def save(name: str, image: ov.Node, outputs: dict[str, ov.Node]) -> None:
        image.output(0).set_names({"input"})
        for output, node in outputs.items():
            node.output(0).set_names({output})
        model = ov.Model(list(outputs.values()), [image], name)
        model.reshape({image.output(0): ov.PartialShape([-1, *image.shape[1:]])})
        ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)

    image = op.parameter([1, 3, HEIGHT, WIDTH], ov.Type.f32)
    mean = op.reduce_mean(image, np.array([1, 2, 3]), keep_dims=False)
    lit = op.reshape(op.clamp(op.divide(mean, op.constant(np.float32(40))), 0, 1), np.array([-1, 1, 1]), False)
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    inside = np.rint((2 * (people([(0, 0)]).keypoints[0])) / 1.25 + centre).astype(int)
    bins = {"simcc_x": (inside[:, 0], WIDTH), "simcc_y": (inside[:, 1], HEIGHT)}
    outputs = {}
    for name, (places, size) in bins.items():
        rows = np.zeros((1, len(places), 2 * size), np.float32)
        rows[0, np.arange(len(places)), 2 * places] = SCORE
        outputs[name] = op.multiply(lit, op.constant(rows))
    save("lit", image, outputs)
    crop = op.parameter([1, 3, 32, 16], ov.Type.f32)
    save("mean", crop, {"embedding": op.reduce_mean(crop, np.array([2, 3]), keep_dims=False)})
    path = folder / "lit.toml"
    path.write_text(_CATALOGUE, "utf-8")
    return path


def picture(shirt: tuple[int, int, int], trousers: tuple[int, int, int]) -> bytes:
    pixels = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    pixels[:130], pixels[130:] = shirt, trousers
    pixels[70:80] = 230
    return encoded(Image.fromarray(pixels), "PNG")


RED, BLUE = picture((200, 40, 30), (120, 60, 20)), picture((30, 50, 190), (20, 120, 140))
BLACK = encoded(Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "PNG")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path) as running:
        yield running


async def show(opened: Stream, shown: bytes, seconds: float) -> int:
    """Show a picture again and again for so long, and until the person in it has an id. Returns the last one.

    Of the time between two frames half a second counts, as for the tracker.
    """
    number, passed, last = -1, 0.0, time.monotonic()
    while passed < seconds or (number < 0 and shown is not BLACK):
        result = await opened.ask(shown)
        assert result["type"] == "result", result
        number = result["people"][0]["id"] if result["people"] else -1
        await asyncio.sleep(0.1)
        passed, last = passed + min(time.monotonic() - last, 0.5), time.monotonic()
    return number


def test_an_id_goes_on_at_another_server_and_while_redis_is_away(tmp_path: Path, redis: RedisProcess) -> None:
    environment = {"redis_url": redis.url, "embedder": "mean", "drain_seconds": 0}
    with ExitStack() as stack:
        catalogue = graphs(tmp_path)
        first, second = (
            stack.enter_context(ServerProcess("--model", "lit", catalogue=catalogue, environment=environment))
            for _ in range(2)
        )

        async def scenario() -> None:
            async with (
                stream(first.port, group="hall") as door,
                stream(second.port, group="hall") as hall,
                stream(second.port, group="yard") as yard,
            ):
                assert door.welcome["embedder"] == "mean"
                red = await show(door, RED, 1.0)
                await show(door, BLACK, 6.0)  # a track is kept for 5 s
                blue = await show(hall, BLUE, 1.0)
                assert blue != red
                assert await show(yard, RED, 1.0) == 1
                await show(hall, BLACK, 6.0)
                assert await show(hall, RED, 1.0) == red
                redis.kill()
                await show(hall, BLACK, 6.0)
                assert await show(door, RED, 1.0) not in (red, blue)  # it does not know that it has left again
                assert await show(hall, RED, 1.0) == red

        asyncio.run(scenario())
        assert any("Redis is away" in line and "groups" in line for line in second.log)
