"""A store of states in a folder, for a server without Redis: its cameras keep their identities when it restarts."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ormsgpack

from engines.files import published
from service.process.supervisor import Supervisor
from service.streams.store.base import Lost, Store, StoredState
from service.streams.store.memory import MemoryStore
from service.tracking_workers.codec import StateError

log = logging.getLogger(__name__)

_VERSION = 1
_ROUND_S = 1.0
"""How often changed states are written."""
_LARGEST = 1_000_000
"""The most bytes of a file."""
_NAME = re.compile(r"[a-z0-9:_-]{1,100}")


class StateFiles(Store):
    """A Store in memory, whose states are also written to files of `folder`, which only this process uses.

    A file is written once a second at most, and at the end. wall: seconds since 1970.
    """

    def __init__(
        self, folder: Path, *, supervisor: Supervisor | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._supervisor = supervisor or Supervisor()
        self._wall = wall
        self._memory = MemoryStore()
        self._changed: dict[str, tuple[StoredState, float]] = {}  # with when each expires
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    async def start(self, lost: Lost) -> None:  # noqa: ARG002 - nobody else has the states
        """See `Store.start`."""
        self._task = self._supervisor.keep("states of cameras", self._keep_writing)

    def keep(self, session: str, state: StoredState, seconds: float) -> None:
        """See `Store.keep`."""
        if not _NAME.fullmatch(session) or len(state.data) > _LARGEST // 2:
            return
        self._memory.keep(session, state, seconds)
        self._changed[session] = state, self._wall() - state.age + seconds

    async def claim(self, session: str, seconds: float) -> StoredState | None:
        """See `Store.claim`."""
        if (known := await self._memory.claim(session, seconds)) is not None:
            return known
        if not _NAME.fullmatch(session):
            return None
        stored = await asyncio.to_thread(self._read, session)
        return None if stored is None else replace(stored, generation=stored.generation + 1)

    async def reap(self) -> int:
        """See `Store.reap`. An expired file is removed when it is read."""
        return await self._memory.reap()

    async def flush(self, seconds: float) -> None:
        """See `Store.flush`."""
        async with asyncio.timeout(seconds):
            await self._write_changed()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._write_changed()

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_ROUND_S)
            await self._write_changed()

    async def _write_changed(self) -> None:
        async with self._writing:  # the newest state of a session is written last
            changed, self._changed = self._changed, {}
            try:
                if changed:
                    await asyncio.to_thread(self._write, changed)
            except OSError as error:
                self._changed = {**changed, **self._changed}
                if not self._failing:
                    log.error("the states of cameras cannot be written (%s): a restart would lose them", error)
                self._failing = True
            else:
                self._failing = False

    def _write(self, changed: dict[str, tuple[StoredState, float]]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = self._wall()
        for session, (state, expires) in changed.items():
            document = [_VERSION, state.generation, state.sequence, now - state.age, expires, state.data]
            with published(self._folder / session, durable=False, unique=False) as part:
                part.write_bytes(ormsgpack.packb(document))

    def _read(self, session: str) -> StoredState | None:
        path = self._folder / session
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError:
            return None
        try:
            match ormsgpack.unpackb(data):
                case [1, int(generation), int(sequence), float(taken), float(expires), bytes(packed)]:
                    if self._wall() < expires:
                        return StoredState(generation, sequence, packed, max(0.0, self._wall() - taken))
                    path.unlink(missing_ok=True)
                    return None
        except ormsgpack.MsgpackDecodeError:
            pass
        raise StateError(f"the file {path} is damaged")
