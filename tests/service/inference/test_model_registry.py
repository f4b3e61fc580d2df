"""Loading models, and switching the runtime of a network while it serves: nothing is lost, and batches fit it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from engines.catalogue import load
from engines.crops.runners import CpuCropRunner
from engines.poses import Poses
from engines.runtimes import Runtime, RuntimeClosedError, open_runtime
from service.batching import ClosedError
from service.config import Settings
from service.inference.model_registry import ModelRegistry
from service.inference.stage import InferenceOptions, replace_runtime
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.scenarios import run, serve
from tests.waiting import until

JPEG = encoded(photo(96, 128))
OPTIONS = InferenceOptions(min_score=0.0, admitted=True)


def test_models_are_loaded_one_at_a_time(tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    registry = ModelRegistry(catalogue, Settings())
    registry.load([catalogue["tiny"]], why="it is small")
    registry.load([catalogue["pair"]])
    registry.load([catalogue["pair"]])  # opens nothing twice
    serving = registry.serving()
    assert [(name, model.why) for name, model in serving.models.items()] == [("tiny", "it is small"), ("pair", "")]
    assert list(serving.runtimes) == ["tiny", "pair-detector", "pair"]
    others = {"decode", "decode-process", "decode-video", "draw"}
    assert [batcher.name for batcher in serving.batchers if batcher.name not in others] == list(serving.runtimes)
    assert len(run(serving, serving.models["pair"].pipeline.image(JPEG, OPTIONS)).poses) > 0


def test_a_model_is_loaded_and_another_one_unloaded_while_the_server_runs(tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    registry = ModelRegistry(catalogue, Settings())
    registry.load([catalogue["pair"]])
    serving = registry.serving()

    async def scenario() -> None:
        with pytest.raises(ValueError, match="pair is the only model"):
            await registry.unload("pair")
        await asyncio.to_thread(registry.load, [catalogue["tiny"]])
        await serving.start()
        runtime = serving.runtimes["pair"]
        pipeline = serving.models["pair"].pipeline
        under_way = asyncio.create_task(pipeline.image(JPEG, OPTIONS))
        await asyncio.sleep(0)
        await registry.unload("pair")
        assert len((await under_way).poses) > 0, "accepted work is finished"
        with pytest.raises(ClosedError):
            await pipeline.image(JPEG, OPTIONS)
        with pytest.raises(RuntimeClosedError):
            runtime.run({"image": np.zeros((1, 256, 192, 3), np.uint8)})
        assert list(serving.runtimes) == [serving.default.model.name] == ["tiny"]
        await serving.default.pipeline.image(JPEG, OPTIONS)

    run(serving, scenario())


@pytest.mark.parametrize("largest", [1, 8], ids=["to smaller batches", "to larger batches"])
def test_a_runtime_is_switched_between_batches(tmp_path: Path, largest: int) -> None:
    others = set(threading.enumerate())  # of earlier tests
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    [stage] = serving.default.pipeline.stages
    old = stage.runtime
    sizes: list[int] = []

    def workers() -> int:
        return sum(thread.name.startswith("posewire-tiny-") for thread in {*threading.enumerate()} - others)

    async def scenario() -> list[Poses]:
        images = [asyncio.create_task(serving.default.pipeline.image(JPEG, OPTIONS)) for _ in range(60)]
        await images[5]  # the others wait or run
        pixels = serving.default.model.input
        new = await asyncio.to_thread(
            open_runtime, tmp_path / "tiny.xml", precision="fp32", max_batch=largest, pixels=pixels, threads=1
        )
        run_network = new.run

        def counted(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            sizes.append(len(next(iter(feeds.values()))))
            return run_network(feeds)

        new.run = counted  # type: ignore[method-assign,assignment]
        assert stage.switch(new, CpuCropRunner(new, pixels)) is old
        await asyncio.to_thread(old.close)
        assert stage.runtime is new
        more = [asyncio.create_task(serving.default.pipeline.image(JPEG, OPTIONS)) for _ in range(60)]
        found = [(await image).poses for image in (*images, *more)]
        await until(lambda: workers() == 1)
        assert new.spec.concurrency == 1
        await asyncio.to_thread(new.close)
        return found

    found = run(serving, scenario())
    for poses in found:
        np.testing.assert_allclose(poses.keypoints, found[0].keypoints, atol=1.0)
    assert 60 <= sum(sizes) <= 120
    assert max(sizes) <= largest
    assert largest == 1 or max(sizes) > 4, "the queue gathers batches for the new runtime"
    with pytest.raises(RuntimeClosedError):
        old.run({"image": np.zeros((1, 256, 192, 3), np.uint8)})


class UnusableRuntime:
    """A runtime that cannot take over, because its concurrency of 0 is refused."""

    def __init__(self, old: Runtime) -> None:
        self.spec = replace(old.spec, concurrency=0)
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("fault", ["runner", "switch"])
def test_if_a_switch_fails_the_old_runtime_goes_on_and_the_new_one_is_closed(tmp_path: Path, fault: str) -> None:
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    [stage] = serving.default.pipeline.stages
    old, runtimes = stage.runtime, dict(serving.runtimes)
    new = UnusableRuntime(old)

    def open_runner(runtime: Runtime) -> CpuCropRunner:
        if fault == "runner":
            raise MemoryError
        return CpuCropRunner(runtime, serving.default.model.input)

    async def scenario() -> None:
        with pytest.raises((MemoryError, ValueError)):
            await asyncio.to_thread(replace_runtime, runtimes, stage, cast(Runtime, new), open_runner)
        assert new.closed
        assert stage.runtime is runtimes["tiny"] is old
        found = await asyncio.gather(*(serving.default.pipeline.image(JPEG, OPTIONS) for _ in range(20)))
        assert len(found) == 20
        assert all(batcher.health.ok for batcher in serving.batchers)

    run(serving, scenario())


def test_an_old_runtime_that_cannot_be_closed_does_not_undo_the_switch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    [stage] = serving.default.pipeline.stages
    old, runtimes, pixels = stage.runtime, dict(serving.runtimes), serving.default.model.input
    new = open_runtime(tmp_path / "tiny.xml", precision="fp32", pixels=pixels)

    def refuse() -> None:
        raise RuntimeError("the device is gone")

    async def scenario() -> None:
        close, old.close = old.close, refuse  # type: ignore[method-assign]
        await asyncio.to_thread(replace_runtime, runtimes, stage, new, lambda runtime: CpuCropRunner(runtime, pixels))
        assert stage.runtime is runtimes["tiny"] is new
        await serving.default.pipeline.image(JPEG, OPTIONS)
        close()

    run(serving, scenario())
    new.close()
    assert "what ran tiny before cannot be closed" in caplog.text
