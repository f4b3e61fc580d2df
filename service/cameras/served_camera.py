"""A camera of this server: what it does, and how that is changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from service.cameras.camera import CameraError
from service.cameras.camera_run import CameraParts, CameraRun, CannotServeError
from service.cameras.entry import CameraEntry
from service.cameras.feed import FeedState, ResultFeed
from service.process.supervisor import Supervisor
from service.streams.protocol import CloseCode

log = logging.getLogger(__name__)

Doing = Literal["connecting", "live", "lost", "paused", "ended", "elsewhere"]

_FETCH_S = 2.0
"""How long another replica may take to send the first picture that is wanted."""


@dataclass(frozen=True, slots=True)
class ServedState:
    """What a served camera does. since: seconds since 1970. reason: for the user; why it is lost or has ended."""

    doing: Doing
    since: float
    reason: str = ""


class ServedCamera:
    """A camera of this server. from_file: the file of cameras names it, else the API does. wall: see ServedState.

    paused: nobody opens its source. generation: of this replica's ownership; 0 while another replica serves it.
    """

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
        self.paused = False
        self.generation = 0
        self.state = ServedState("elsewhere", wall())
        self.run = CameraRun(name, entry, parts, ResultFeed(), self._say, from_file=from_file)
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    @property
    def feed(self) -> ResultFeed:
        return self.run.feed

    @property
    def from_file(self) -> bool:
        return self.run.from_file

    @property
    def entry(self) -> CameraEntry:
        return self.run.entry

    @property
    def owned(self) -> bool:
        """It is served here."""
        return self.generation > 0

    async def own(self, generation: int) -> None:
        """Serve it from now on."""
        async with self._changing:
            self.generation = generation
            self._start()

    async def disown(self) -> None:
        """Serve it no longer. Returns when its source is closed, and its state is given to the store."""
        async with self._changing:
            self.generation = 0
            await self._stop()
            self.feed.clear()
            self._say("elsewhere")

    async def pause(self) -> None:
        """Close its source until `resume`."""
        async with self._changing:
            self.paused = True
            await self._stop()
            self.feed.clear()
            self._start()

    async def resume(self) -> None:
        """Open its source again, if it is served here."""
        async with self._changing:
            self.paused = False
            self._start()

    async def replace(self, entry: CameraEntry) -> None:
        """Go on with another entry. A camera that is paused stays so. Watchers are told to come again."""
        async with self._changing:
            await self._stop()
            feed, self.run.entry, self.run.feed = self.feed, entry, ResultFeed()
            self.feed.tell(FeedState(self.state.doing, self.state.reason))
            feed.end(CloseCode.RESTARTING, "the camera's entry has changed; connect again for the new one")
            self._start()

    async def fetch_picture(self) -> None:
        """Wait until there is a picture in the feed, for two seconds at most, if another replica has the camera."""
        number = -1
        self.feed.want_pictures()
        if self.owned:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_FETCH_S):
                while not (result := await self.feed.after(number)).pixels.size:
                    number = result.number

    def _start(self) -> None:
        """Run it in the background until `_stop`, if it is served here and not paused."""
        if self._task is None and self.owned:
            self._say("paused" if self.paused else "connecting")
            if not self.paused:
                self._task = self._supervisor.keep(f"camera {self.name}", self._serve)

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

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
