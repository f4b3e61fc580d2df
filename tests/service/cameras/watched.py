"""A camera under test, with everything that it says."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.cameras.camera import Camera, CameraFrame, CameraState, CameraTimes
from service.cameras.sources.address import SourceAddress

QUICK = CameraTimes(connect=30, stall=0.5, first_pause=0.01, longest_pause=0.05, steady=0.2)
"""Stalls are noticed soon; a connection may take long, as this machine may be busy."""
PATIENT = CameraTimes(connect=60, stall=60, first_pause=0.01)
"""A busy machine is not taken for a stalled camera."""


@dataclass
class Watched:
    """A camera and everything that it said."""

    camera: Camera
    states: list[CameraState] = field(default_factory=list)

    def reasons(self) -> list[str]:
        return [state.reason for state in self.states if state.phase == "lost"]

    async def frame(self) -> CameraFrame:
        """Wait for the next frame, patiently."""
        times, self.camera.times = self.camera.times, PATIENT
        try:
            async with asyncio.timeout(60):
                return await anext(self.camera)
        finally:
            self.camera.times = times


@asynccontextmanager
async def opened(source: str, times: CameraTimes = PATIENT) -> AsyncIterator[Watched]:
    """Open a camera. It must close without trouble."""
    states: list[CameraState] = []
    camera = Camera(SourceAddress.parse(source), times=times, changed=states.append)
    async with camera:
        yield Watched(camera, states)


def watch(source: str, story: Callable[[Watched], Awaitable[None]], times: CameraTimes = QUICK) -> Watched:
    """Open a camera, and run the story with it. No process must be left of it."""

    async def run() -> Watched:
        async with asyncio.timeout(120), opened(source, times) as watched:
            await story(watched)
        return watched

    watched = asyncio.run(run())
    assert readers() == []
    return watched


def readers() -> list[str]:
    """The ids and command lines of all processes that read sources for this one."""
    children = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, check=False, encoding="utf-8"
    )
    return [line for line in children.stdout.splitlines() if "service.cameras.sources.reader" in line]
