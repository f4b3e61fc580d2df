"""What becomes of the frames of a camera: with a real source, real networks that may fail, and a real tracker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from engines.inputs import Arrays
from engines.skeletons import Skeleton
from service.cameras.camera_run import CameraParts
from service.cameras.entry import CameraEntry
from service.cameras.feed import CameraResult
from service.cameras.saved_session import store_name
from service.cameras.served_camera import ServedCamera
from service.inference.model_registry import ServedModel, Serving
from service.observability.cameras import CameraMetrics
from service.process.supervisor import Supervisor
from service.quota import Quota
from service.streams.flow_control import ConcurrencyLimiter
from service.streams.store.memory import MemoryStore
from service.streams.tracking_parts import TrackingParts
from tests.camera_servers import HttpCamera
from tests.scenarios import run, serve
from tests.tracking_workers import tracking_workers
from tests.waiting import until

FRAME = 160 * 120 * 3


@pytest.fixture
def filmed() -> Iterator[HttpCamera]:
    with HttpCamera() as camera:
        yield camera


class Scene:
    """A served camera, and what it shares with others. states: what it has told, without repetitions."""

    def __init__(self, serving: Serving, source: str, parts: dict[str, Any], **entry: object) -> None:
        self.serving = serving
        self.memory = Quota("bytes of memory", 1_000_000_000)
        self.limiter = ConcurrencyLimiter(time.monotonic)
        self.registry = CollectorRegistry()
        self.supervisor = Supervisor()
        self.states = ["connecting"]
        self._parts = parts
        self._entry = CameraEntry.model_validate({"source": source, "detect_every": 0, **entry})

    async def play(self, story: Callable[[Scene], Awaitable[None]]) -> None:
        async with tracking_workers() as workers:
            parts = CameraParts(
                **{
                    "find": self.find,
                    "workers": workers,
                    "tracking": TrackingParts(),
                    "limiter": lambda _: self.limiter,
                    "store": MemoryStore(),
                    "memory": self.memory,
                    "metrics": CameraMetrics(self.registry),
                    "frame_seconds": 60.0,
                    "max_people": 50,
                    "checkpoint_seconds": 1.0,
                    "hosts": (),
                    **self._parts,
                }
            )
            self.camera = ServedCamera("door", self._entry, parts, self.supervisor, from_file=True)
            try:
                async with asyncio.timeout(120):
                    with self.camera.feed.listening(self._hear):
                        await self.camera.own(1)
                        await story(self)
            finally:
                await self.camera.disown()
                await self.supervisor.close()

    def find(self, _model: str | None, _skeleton: str) -> tuple[ServedModel, Skeleton]:
        return self.serving.default, self.serving.default.skeleton

    async def result(self) -> CameraResult:
        number = -1 if self.camera.feed.newest is None else self.camera.feed.newest.number
        return await self.camera.feed.after(number)

    def _hear(self) -> None:
        if not self.states or self.states[-1] != self.camera.feed.state.name:
            self.states.append(self.camera.feed.state.name)


def play(catalogue: Path, source: str, story: Callable[[Scene], Awaitable[None]], **others: Any) -> Scene:
    """Run a story with a camera that sees two people. others: members of its entry, or of its parts."""
    serving = serve(catalogue, "pair")
    parts = {name: others.pop(name) for name in list(others) if name in CameraParts.__dataclass_fields__}
    scene = Scene(serving, source, parts, **others)
    run(serving, scene.play(story))
    return scene


def test_a_network_that_fails_makes_the_camera_lost_until_it_works_again(
    catalogue: Path, filmed: HttpCamera, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(scene: Scene) -> None:
        runtime = scene.serving.default.pipeline.stages[0].runtime
        good = runtime.run

        def bad(_: Arrays) -> Any:
            raise RuntimeError("out of order")

        assert len((await scene.result()).processed.poses) == 2
        runtime.run = bad  # type: ignore[assignment, method-assign]
        await until(lambda: scene.camera.state.doing == "lost")
        assert scene.camera.state.reason == "its frames get no results: the server fails on them; its log says why"
        runtime.run = good  # type: ignore[method-assign]
        await until(lambda: scene.camera.state.doing == "live")
        await scene.result()
        assert scene.camera.run.tally.failed >= 5

    assert play(catalogue, filmed.url, story).states == ["connecting", "live", "lost", "live"]
    assert sum("a frame of the camera door failed" in record.getMessage() for record in caplog.records) == 1


def test_frames_take_memory_that_is_given_back_and_a_camera_without_any_says_so(
    catalogue: Path, filmed: HttpCamera
) -> None:
    async def story(scene: Scene) -> None:
        await scene.result()
        assert scene.memory.held == 2 * FRAME
        filmed.size = (320, 240)
        await until(lambda: scene.memory.held == 8 * FRAME)
        await scene.camera.pause()
        assert scene.memory.held == 0
        scene.memory.total = FRAME
        await scene.camera.resume()
        await until(lambda: scene.camera.state.doing == "lost")
        assert "bytes of memory" in scene.camera.state.reason
        scene.memory.total = 100 * FRAME
        await scene.result()

    assert play(catalogue, filmed.url, story).memory.held == 0


def test_a_run_stores_its_state_at_its_end_but_none_before_its_first_result(
    catalogue: Path, filmed: HttpCamera
) -> None:
    store = MemoryStore()

    async def story(scene: Scene) -> None:
        camera = scene.camera
        await camera.disown()
        assert len(store) == 0
        await camera.own(2)
        await scene.result()
        session = camera.run.session
        await until(lambda: len(store) == 1)
        store.drop(store_name("door"))  # as a Redis that was started again empty
        await camera.disown()
        await camera.own(2)
        await scene.result()
        assert camera.run.session == session

    play(catalogue, filmed.url, story, store=store, checkpoint_seconds=0.0)


def test_metrics_of_a_camera_go_with_it() -> None:
    registry = CollectorRegistry()
    metrics = CameraMetrics(registry)
    frames = {"decoded": 20, "served": 10, "dropped": 9, "failed": 1}
    metrics.refresh("door", up=True, frames=frames, damaged=2, lost=1)
    metrics.refresh("hall", up=True, frames=frames, damaged=0, lost=0)
    metrics.refresh("door", up=True, frames={**frames, "dropped": 7}, damaged=2, lost=1)  # a moment later, see there
    metrics.refresh("door", up=False, frames={**frames, "dropped": 12}, damaged=2, lost=2)
    metrics.result("door", 0.1)
    text = generate_latest(registry).decode()
    assert 'posewire_camera_up{camera="door"} 0.0' in text
    assert 'posewire_camera_frames_total{camera="door",outcome="dropped"} 12.0' in text
    assert 'posewire_camera_lost_total{camera="door"} 2.0' in text
    metrics.refresh("door", up=None, frames=frames, damaged=2, lost=2)
    assert 'posewire_camera_up{camera="door"}' not in generate_latest(registry).decode()
    metrics.forget("door")
    metrics.forget("never-seen")
    text = generate_latest(registry).decode()
    assert 'camera="door"' not in text
    assert 'posewire_camera_up{camera="hall"} 1.0' in text
