"""Who owns the cameras of a server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from service.process.supervisor import Supervisor


class CameraKeeper(Protocol):
    """Runs cameras. It is told which of them this replica owns."""

    async def take(self, name: str, generation: int) -> None:
        """Begin to serve a camera, from the state that its last owner has kept."""

    async def leave(self, name: str, *, lost: bool) -> None:
        """End serving a camera. Returns when its source is closed and its state is stored.

        lost: another replica may have it already, so its state is not stored.
        """

    def see_version(self, version: int) -> None:
        """Read the cameras that replicas share, if they have another version than before. Does not wait for it."""


class Ownership(ABC):
    """Decides which cameras this replica serves. Belongs to one event loop.

    replica: this one's name. shared: other replicas may serve the cameras.
    """

    shared = False

    def __init__(self, replica: str) -> None:
        self.replica = replica

    @abstractmethod
    async def start(self, keeper: CameraKeeper) -> None:
        """Tell `keeper` from now on which cameras to take and to leave."""

    @abstractmethod
    def know(self, names: Iterable[str]) -> None:
        """These are all cameras from now on. One that is no longer among them is left if it was owned."""

    @abstractmethod
    def generation(self, name: str) -> int:
        """The generation of the ownership with which a camera is served here, 0 if it is not."""

    @abstractmethod
    def owner(self, name: str) -> str:
        """The replica that serves a camera, as far as it is known; empty for none."""

    @property
    def certain(self) -> bool:
        """Whether no other replica can serve the cameras of this one."""
        return True

    @abstractmethod
    async def confirm(self, name: str, generation: int) -> bool:
        """Return whether this replica still owns a camera and may tell what it sees. Waits until that is known."""

    @abstractmethod
    async def hand_over(self) -> None:
        """Leave all cameras, and take no others. Returns when other replicas can take them."""

    @abstractmethod
    async def close(self) -> None:
        """Stop. Call `hand_over` first, or other replicas take the cameras only when the leases have ended."""


class OwnedCameras:
    """Has cameras taken and left, one step at a time for each, until those are served that are wanted.

    Belongs to one event loop. left: called with the name and generation of a camera that was left and was not lost.
    """

    def __init__(
        self, supervisor: Supervisor, left: Callable[[str, int], None] = lambda _name, _generation: None
    ) -> None:
        self._supervisor = supervisor
        self._left = left
        self._keeper: CameraKeeper | None = None
        self._wanted: dict[str, int] = {}
        self._held: dict[str, int] | None = None
        self._served: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, keeper: CameraKeeper) -> None:
        self._keeper = keeper

    def want(self, wanted: Mapping[str, int], held: Mapping[str, int] | None = None) -> None:
        """Serve these generations of cameras from now on, and no others.

        held: those that this replica owns. A camera that is served and no longer held is lost. None: none is ever lost.
        """
        self._wanted, self._held = dict(wanted), None if held is None else dict(held)
        for name in (*self._wanted, *self._served):
            if self._keeper and name not in self._tasks and self._wanted.get(name) != self._served.get(name):
                work = self._settle(name, self._keeper)
                self._tasks[name] = self._supervisor.once(f"change of the camera {name}", work)

    def generation(self, name: str) -> int:
        """With which a camera is served, 0 if it is not."""
        return self._served.get(name, 0)

    async def settled(self) -> None:
        """Wait until no camera is being taken or left."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _settle(self, name: str, keeper: CameraKeeper) -> None:
        try:
            while (wanted := self._wanted.get(name)) != (served := self._served.get(name)):
                if served is not None:
                    lost = self._held is not None and self._held.get(name) != served
                    await keeper.leave(name, lost=lost)
                    del self._served[name]
                    if not lost:
                        self._left(name, served)
                elif wanted is not None:
                    await keeper.take(name, wanted)
                    self._served[name] = wanted
        finally:
            del self._tasks[name]


class LocalOwnership(Ownership):
    """This replica owns all cameras that it knows."""

    def __init__(self, replica: str, supervisor: Supervisor) -> None:
        super().__init__(replica)
        self._owned = OwnedCameras(supervisor)
        self._names: tuple[str, ...] = ()

    async def start(self, keeper: CameraKeeper) -> None:
        self._owned.start(keeper)
        self.know(self._names)

    def know(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._owned.want(dict.fromkeys(self._names, 1))

    def generation(self, name: str) -> int:
        return self._owned.generation(name)

    def owner(self, name: str) -> str:
        return self.replica if name in self._names else ""

    async def confirm(self, name: str, generation: int) -> bool:  # noqa: ARG002
        return name in self._names

    async def hand_over(self) -> None:
        self.know(())
        await self._owned.settled()

    async def close(self) -> None:
        await self.hand_over()
