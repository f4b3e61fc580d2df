"""The cameras of a server: which there are, what each of them does, and how both are changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from service.cameras.camera_run import CameraParts
from service.cameras.entry import CameraEntry
from service.cameras.kept_cameras import KeptCameras
from service.cameras.ownership.base import Ownership
from service.cameras.served_camera import ServedCamera
from service.process.supervisor import Supervisor
from service.streams.protocol import CloseCode
from service.streams.store.base import StoreAwayError

if TYPE_CHECKING:
    from service.cameras.ownership.redis_entries import RedisEntries  # redis is slow to import

log = logging.getLogger(__name__)

_FLUSH_S = 1.0
"""How long the state of a camera may take to be stored before another replica gets it."""


class CamerasFullError(Exception):
    """There are as many cameras as the server may have. The message is for the user."""


class ServedCameras:
    """All cameras of a server, by name. Those that it owns are served here, see CameraKeeper.

    most: cameras at once. kept: where cameras of the API are kept, None for nowhere. shared: where all replicas keep
    them, in place of that.
    """

    def __init__(
        self,
        parts: CameraParts,
        supervisor: Supervisor,
        *,
        ownership: Ownership,
        most: int,
        kept: KeptCameras | None = None,
        shared: RedisEntries | None = None,
    ) -> None:
        self.cameras: dict[str, ServedCamera] = {}
        self.ownership = ownership
        self._parts = replace(parts, confirm=self._confirm)
        self._supervisor = supervisor
        self._most = most
        self._kept = kept
        self._shared = shared
        self._version = -1  # of what is shared
        self._syncing: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    @property
    def replica(self) -> str:
        """The name of this server."""
        return self.ownership.replica

    async def start(self, of_file: Mapping[str, CameraEntry]) -> None:
        """Start the cameras of the file, and those that were kept."""
        async with self._changing:
            kept, paused = ({}, frozenset[str]()) if self._kept is None else await asyncio.to_thread(self._kept.load)
            for name, entry in {**kept, **of_file}.items():
                if len(self.cameras) == self._most:
                    log.error("the camera %s is not served: max_cameras allows %d", name, self._most)
                else:
                    await self._add(name, entry, from_file=name in of_file, paused=name in paused)
        if self._shared is not None:
            try:
                await self._sync(self._shared)
            except StoreAwayError as error:
                log.error("the cameras that the API has added are not known yet: %s", error)
        self.ownership.know(self.cameras)
        await self.ownership.start(self)

    async def take(self, name: str, generation: int) -> None:
        """See CameraKeeper."""
        if (camera := self.cameras.get(name)) is not None:
            await camera.own(generation)

    async def leave(self, name: str, *, lost: bool) -> None:
        """See CameraKeeper."""
        if (camera := self.cameras.get(name)) is not None:
            await camera.disown()
            if not lost:
                with suppress(TimeoutError):
                    await self._parts.store.flush(_FLUSH_S)

    async def hand_over(self) -> None:
        """Give all cameras to other replicas, if there are any, before this server ends."""
        if self.ownership.shared:
            await self.ownership.hand_over()

    def see_version(self, version: int) -> None:
        """See CameraKeeper."""
        if self._shared is not None and version != self._version and (self._syncing is None or self._syncing.done()):
            self._syncing = self._supervisor.once("cameras of the API", self._sync(self._shared))

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
            self.ownership.know(self.cameras)
            await self._save()
            return f"{len(new)} new, {len(changed)} changed, {len(gone)} removed"

    async def put(self, name: str, entry: CameraEntry) -> bool:
        """Add a camera, or replace one. Returns whether it is new. Raises CamerasFullError; StoreAwayError if replicas
        share cameras and cannot be told; and OSError if it cannot be kept, but is served nevertheless.
        """
        if self._shared is not None:
            known = self.cameras.get(name)
            if known is None and len(self.cameras) >= self._most:
                raise CamerasFullError(f"there are {len(self.cameras)} cameras, and max_cameras allows no more")
            await self._shared.change(name, entry, paused=known is not None and known.paused)
            await self._sync(self._shared)
            return known is None
        async with self._changing:
            if (camera := self.cameras.get(name)) is not None:
                await camera.replace(entry)
            elif len(self.cameras) >= self._most:
                raise CamerasFullError(f"this server has {len(self.cameras)} cameras, and max_cameras allows no more")
            else:
                await self._add(name, entry, from_file=False)
            self.ownership.know(self.cameras)
            await self._save()
            return camera is None

    async def delete(self, name: str) -> None:
        """End a camera. Raises KeyError if there is none of this name, StoreAwayError, and OSError."""
        if self._shared is not None:
            await self._shared.change(self.cameras[name].name, None, paused=False)
            await self._sync(self._shared)
            return
        async with self._changing:
            await self._remove(name)
            self.ownership.know(self.cameras)
            await self._save()

    async def pause(self, name: str, *, paused: bool) -> None:
        """Pause a camera, or resume it. Raises KeyError if there is none of this name, StoreAwayError, and OSError."""
        camera = self.cameras[name]
        if self._shared is not None:
            await self._shared.change(name, None if camera.from_file else camera.entry, paused=paused)
            await self._sync(self._shared)
            return
        async with self._changing:
            if paused:
                await camera.pause()
            else:
                await camera.resume()
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
                up=None if doing in ("paused", "elsewhere") else doing == "live",
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
        """Leave all cameras, and store their states."""
        try:
            await self.ownership.hand_over()
        finally:
            await self.ownership.close()

    async def _confirm(self, name: str) -> None:
        """Return once it is certain that this replica owns a camera. If another does, its run is about to be ended."""
        if (camera := self.cameras.get(name)) is None or not await self.ownership.confirm(name, camera.generation):
            await asyncio.get_running_loop().create_future()

    async def _sync(self, shared: RedisEntries) -> None:
        """Have the cameras of the API, and those paused, that replicas share. Raises StoreAwayError."""
        async with self._changing:
            found = await shared.load()
            ours = {name for name, camera in self.cameras.items() if not camera.from_file}
            await asyncio.gather(*map(self._remove, ours - found.entries.keys()))
            for name, entry in found.entries.items():
                camera = self.cameras.get(name)
                if camera is None and len(self.cameras) >= self._most:
                    log.error("the camera %s is not served: max_cameras allows %d", name, self._most)
                elif camera is None:
                    await self._add(name, entry, from_file=False, paused=name in found.paused)
                elif not camera.from_file and camera.entry != entry:
                    await camera.replace(entry)
            for name, camera in self.cameras.items():
                if camera.paused and name not in found.paused:
                    await camera.resume()
                elif not camera.paused and name in found.paused:
                    await camera.pause()
            self._version = found.version
            self.ownership.know(self.cameras)

    async def _add(self, name: str, entry: CameraEntry, *, from_file: bool, paused: bool = False) -> None:
        camera = ServedCamera(name, entry, self._parts, self._supervisor, from_file=from_file)
        self.cameras[name] = camera
        camera.paused = paused
        if generation := self.ownership.generation(name):  # it was removed a moment ago
            await camera.own(generation)

    async def _remove(self, name: str) -> None:
        camera = self.cameras.pop(name)
        camera.feed.end(CloseCode.UNKNOWN_CAMERA, f"the camera {name} was removed")
        await camera.disown()
        self._parts.metrics.forget(name)

    async def _save(self) -> None:
        if self._kept is None:
            return
        entries = {name: camera.entry for name, camera in self.cameras.items() if not camera.from_file}
        paused = [name for name, camera in self.cameras.items() if camera.paused]
        await asyncio.to_thread(self._kept.save, entries, paused)
