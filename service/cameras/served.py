"""The cameras of a server: which there are, what each of them does, and how both are changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from service.cameras.camera import CameraError
from service.cameras.camera_run import CameraParts, CameraRun, CannotServeError
from service.cameras.entry import CameraEntry
from service.cameras.feed import FeedState, ResultFeed
from service.cameras.kept_cameras import KeptCameras
from service.process.supervisor import Supervisor
from service.streams.protocol import CloseCode

log = logging.getLogger(__name__)

Doing = Literal["connecting", "live", "lost", "paused", "ended"]


@dataclass(frozen=True, slots=True)
class ServedState:
    """What a served camera does. since: seconds since 1970. reason: for the user; why it is lost or has ended."""

    doing: Doing
    since: float
    reason: str = ""


class ServedCamera:
    """A camera of this server. from_file: the file of cameras names it, else the API does. wall: see ServedState."""

    def __init__(
        self,
        name: str,
        entry: CameraEntry,
        parts: CameraParts,
        supervisor: Supervisor,
        *,
        from_file: bool,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._wall = wall
        self.state = ServedState("connecting", wall())
        self.run = CameraRun(name, entry, parts, ResultFeed(), self._say, from_file=from_file)
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None

    @property
    def feed(self) -> ResultFeed:
        return self.run.feed

    @property
    def from_file(self) -> bool:
        return self.run.from_file

    @property
    def entry(self) -> CameraEntry:
        return self.run.entry

    def start(self) -> None:
        """Run it in the background, until `stop`."""
        if self._task is None:
            self._say("connecting")
            self._task = self._supervisor.keep(f"camera {self.name}", self._serve)

    async def stop(self) -> None:
        """End its run. Returns when its source is closed and its state is stored."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def pause(self) -> None:
        """Close its source until `start`."""
        await self.stop()
        self.feed.clear()
        self._say("paused")

    async def replace(self, entry: CameraEntry) -> None:
        """Go on with another entry. A camera that is paused stays so. Watchers are told to come again."""
        await self.stop()
        feed, self.run.entry, self.run.feed = self.feed, entry, ResultFeed()
        self.feed.tell(FeedState(self.state.doing, self.state.reason))
        feed.end(CloseCode.RESTARTING, "the camera's entry has changed; connect again")
        if self.state.doing != "paused":
            self.start()

    async def _serve(self) -> None:
        try:
            await self.run.run()
            self._say("ended", "the file has ended")
        except (CannotServeError, CameraError) as error:  # another try would not help
            log.error("the camera %s has ended: %s", self.name, error)
            self._say("ended", str(error))
        except Exception:
            self._say("lost", "the server failed on it and tries again; its log says why")
            raise
        await asyncio.get_running_loop().create_future()  # until `stop`

    def _say(self, doing: Doing, reason: str = "") -> None:
        if (doing, reason) == (self.state.doing, self.state.reason):
            return
        if doing != self.state.doing:
            log.info("the camera %s is %s%s", self.name, doing, f": {reason}" if reason else "")
        since = self.state.since if doing == self.state.doing else self._wall()
        self.state = ServedState(doing, since, reason)
        self.feed.tell(FeedState(doing, reason))


class CamerasFullError(Exception):
    """There are as many cameras as the server may have. The message is for the user."""


class ServedCameras:
    """All cameras of a server, by name.

    replica: the name of this server. most: cameras at once. kept: where cameras of the API are kept, None for nowhere.
    """

    def __init__(
        self, parts: CameraParts, supervisor: Supervisor, *, replica: str, most: int, kept: KeptCameras | None = None
    ) -> None:
        self.cameras: dict[str, ServedCamera] = {}
        self.replica = replica
        self._parts = parts
        self._supervisor = supervisor
        self._most = most
        self._kept = kept
        self._changing = asyncio.Lock()

    async def start(self, of_file: Mapping[str, CameraEntry]) -> None:
        """Start the cameras of the file, and those that were kept."""
        async with self._changing:
            kept, paused = ({}, frozenset[str]()) if self._kept is None else await asyncio.to_thread(self._kept.load)
            for name, entry in {**kept, **of_file}.items():
                if len(self.cameras) == self._most:
                    log.error("the camera %s is not served: max_cameras allows %d", name, self._most)
                else:
                    await self._add(name, entry, from_file=name in of_file, paused=name in paused)

    async def reload(self, of_file: Mapping[str, CameraEntry]) -> str:
        """Make the cameras of the file those, and return what has changed. Or change nothing: CamerasFullError."""
        async with self._changing:
            ours = {name for name, camera in self.cameras.items() if camera.from_file}
            others = self.cameras.keys() - ours - of_file.keys()
            if len(of_file) + len(others) > self._most:
                text = f"the file has {len(of_file)} cameras and the API has added {len(others)}"
                raise CamerasFullError(f"{text}; max_cameras allows {self._most}")
            gone = ours - of_file.keys()
            changed = {n: e for n, e in of_file.items() if n in self.cameras and self.cameras[n].entry != e}
            new = {name: entry for name, entry in of_file.items() if name not in self.cameras}
            for name in of_file.keys() & self.cameras.keys():
                self.cameras[name].run.from_file = True
            await asyncio.gather(*map(self._remove, gone))
            await asyncio.gather(*(self.cameras[name].replace(entry) for name, entry in changed.items()))
            for name, entry in new.items():
                await self._add(name, entry, from_file=True)
            await self._save()
            return f"{len(new)} new, {len(changed)} changed, {len(gone)} removed"

    async def put(self, name: str, entry: CameraEntry) -> bool:
        """Add a camera, or replace one. Returns whether it is new. Raises CamerasFullError, and OSError if it cannot
        be kept; it is served nevertheless.
        """
        async with self._changing:
            if (camera := self.cameras.get(name)) is not None:
                await camera.replace(entry)
            elif len(self.cameras) >= self._most:
                raise CamerasFullError(f"this server has {len(self.cameras)} cameras, and max_cameras allows no more")
            else:
                await self._add(name, entry, from_file=False)
            await self._save()
            return camera is None

    async def delete(self, name: str) -> None:
        """End a camera. Raises KeyError if there is none of this name, and OSError."""
        async with self._changing:
            await self._remove(name)
            await self._save()

    async def pause(self, name: str, *, paused: bool) -> None:
        """Pause a camera, or resume it. Raises KeyError if there is none of this name, and OSError."""
        async with self._changing:
            camera = self.cameras[name]
            if paused:
                await camera.pause()
            else:
                camera.start()
            await self._save()

    def refresh(self) -> int:
        """Take a sample of what the cameras have done, for their rates and the metrics. Called once a second.

        Returns how many are live.
        """
        now = asyncio.get_running_loop().time()
        for name, camera in self.cameras.items():
            camera.run.count()
            tally = camera.run.tally
            tally.sample(now)
            doing = camera.state.doing
            self._parts.metrics.refresh(
                name,
                up=None if doing == "paused" else doing == "live",
                frames={
                    "decoded": tally.decoded,
                    "served": tally.done,
                    "dropped": tally.dropped,
                    "failed": tally.failed,
                },
                damaged=tally.damaged,
                lost=tally.lost,
            )
        return sum(camera.state.doing == "live" for camera in self.cameras.values())

    async def close(self) -> None:
        """End all cameras, and store their states."""
        async with self._changing:
            await asyncio.gather(*(camera.stop() for camera in self.cameras.values()))

    async def _add(self, name: str, entry: CameraEntry, *, from_file: bool, paused: bool = False) -> None:
        camera = ServedCamera(name, entry, self._parts, self._supervisor, from_file=from_file)
        self.cameras[name] = camera
        if paused:
            await camera.pause()
        else:
            camera.start()

    async def _remove(self, name: str) -> None:
        camera = self.cameras.pop(name)
        await camera.stop()
        camera.feed.end(CloseCode.UNKNOWN_CAMERA, "the camera has been removed")
        self._parts.metrics.forget(name)

    async def _save(self) -> None:
        if self._kept is None:
            return
        entries = {name: camera.entry for name, camera in self.cameras.items() if not camera.from_file}
        paused = [name for name, camera in self.cameras.items() if camera.state.doing == "paused"]
        await asyncio.to_thread(self._kept.save, entries, paused)
