"""The cameras of a server: which there are, and the task of each."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.cameras.camera_run import CameraParts, CameraRun
from service.cameras.entry import CameraEntry
from service.cameras.feed import ResultFeed
from service.events.entries import JournalEntry, SinkEntry, SinkName
from service.process.supervisor import Supervisor


class CameraFile(BaseModel):
    """The file that the setting `cameras` names."""

    model_config = ConfigDict(extra="forbid")

    cameras: dict[str, CameraEntry] = {}
    events: JournalEntry = JournalEntry()
    sinks: dict[SinkName, SinkEntry] = {}

    @staticmethod
    def read(path: Path) -> CameraFile:
        """Raises OSError, and ValueError if it is not TOML or an entry is not valid."""
        return CameraFile.model_validate(tomllib.loads(path.read_text("utf-8")))


class ServedCamera:
    """A camera of this server. paused: it has no source open."""

    def __init__(self, name: str, entry: CameraEntry, parts: CameraParts, supervisor: Supervisor) -> None:
        self.name = name
        self.entry = entry
        self.feed = ResultFeed()
        self.paused = False
        self.run = CameraRun(name, entry, parts, self.feed)
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it in the background."""
        self._task = self._supervisor.keep(f"camera {self.name}", self.run.run)

    async def stop(self) -> None:
        """End its run. Returns when its source is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class ServedCameras:
    """All cameras of a server, by name."""

    def __init__(self, parts: CameraParts, supervisor: Supervisor) -> None:
        self.cameras: dict[str, ServedCamera] = {}
        self._parts = parts
        self._supervisor = supervisor

    def start(self, entries: Mapping[str, CameraEntry]) -> None:
        """Start these cameras."""
        for name, entry in entries.items():
            camera = self.cameras[name] = ServedCamera(name, entry, self._parts, self._supervisor)
            camera.start()

    async def close(self) -> None:
        """End all cameras."""
        await asyncio.gather(*(camera.stop() for camera in self.cameras.values()))
