"""What runs a network is switched while it serves: nothing is lost, and batches are as large as the new one takes."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from engines.crops.views import CpuView
from engines.poses import Poses
from engines.runtimes import Runtime, RuntimeClosedError, open_runtime
from service.inference.model_registry import replace_runtime
from service.inference.stage import InferenceOptions
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.scenarios import run, serve
from tests.waiting import until

JPEG = encoded(photo(96, 128))
ASK = InferenceOptions(min_score=0.0, admitted=True)


@pytest.mark.parametrize("most", [1, 8], ids=["to smaller batches", "to larger batches"])
def test_a_network_is_switched_between_batches(tmp_path: Path, most: int) -> None:
    others = set(threading.enumerate())  # of tests before this one
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    [stage] = serving.default.pipeline.stages
    old = stage.runtime
    sizes: list[int] = []

    def workers() -> int:
        return sum(thread.name.startswith("posewire-tiny-") for thread in {*threading.enumerate()} - others)

    async def story() -> list[Poses]:
        images = [asyncio.create_task(serving.default.pipeline.image(JPEG, ASK)) for _ in range(60)]
        await images[5]  # the rest waits, or is under way
        pixels = serving.default.model.input
        new = await asyncio.to_thread(
            open_runtime, tmp_path / "tiny.xml", precision="fp32", max_batch=most, pixels=pixels, threads=1
        )
        plain = new.run

        def counted(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            sizes.append(len(next(iter(feeds.values()))))
            return plain(feeds)

        new.run = counted  # type: ignore[method-assign,assignment]
        assert stage.switch(new, CpuView(new, pixels)) is old
        await asyncio.to_thread(old.close)
        assert stage.runtime is new
        more = [asyncio.create_task(serving.default.pipeline.image(JPEG, ASK)) for _ in range(60)]
        found = [(await image).poses for image in (*images, *more)]
        await until(lambda: workers() == 1)
        assert new.spec.concurrency == 1
        await asyncio.to_thread(new.close)
        return found

    found = run(serving, story())
    for poses in found:
        np.testing.assert_allclose(poses.keypoints, found[0].keypoints, atol=1.0)
    assert 60 <= sum(sizes) <= 120
    assert max(sizes) <= most
    assert most == 1 or max(sizes) > 4, "the queue gathers what the new one takes"
    with pytest.raises(RuntimeClosedError):
        old.run({"image": np.zeros((1, 256, 192, 3), np.uint8)})


class Unserved:
    """A runtime that cannot take over: nobody can be started to run so many batches at once."""

    def __init__(self, old: Runtime) -> None:
        self.spec = replace(old.spec, concurrency=0)
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("fault", ["view", "switch"])
def test_where_a_switch_fails_the_old_network_goes_on_everywhere_and_the_new_one_is_closed(
    tmp_path: Path, fault: str
) -> None:
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    [stage] = serving.default.pipeline.stages
    old, runtimes = stage.runtime, dict(serving.runtimes)
    new = Unserved(old)

    def look(runtime: Runtime) -> CpuView:
        if fault == "view":
            raise MemoryError
        return CpuView(runtime, serving.default.model.input)

    async def story() -> None:
        with pytest.raises((MemoryError, ValueError)):
            await asyncio.to_thread(replace_runtime, runtimes, stage, cast(Runtime, new), look)
        assert new.closed
        assert stage.runtime is runtimes["tiny"] is old
        found = await asyncio.gather(*(serving.default.pipeline.image(JPEG, ASK) for _ in range(20)))
        assert len(found) == 20
        assert all(batcher.health.ok for batcher in serving.batchers)

    run(serving, story())


def test_an_old_network_that_cannot_be_closed_does_not_undo_the_switch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    [stage] = serving.default.pipeline.stages
    old, runtimes, pixels = stage.runtime, dict(serving.runtimes), serving.default.model.input
    new = open_runtime(tmp_path / "tiny.xml", precision="fp32", pixels=pixels)

    def refuse() -> None:
        raise RuntimeError("the device is gone")

    async def story() -> None:
        close, old.close = old.close, refuse  # type: ignore[method-assign]
        await asyncio.to_thread(replace_runtime, runtimes, stage, new, lambda runtime: CpuView(runtime, pixels))
        assert stage.runtime is runtimes["tiny"] is new
        await serving.default.pipeline.image(JPEG, ASK)
        close()

    run(serving, story())
    new.close()
    assert "what ran tiny before cannot be closed" in caplog.text
