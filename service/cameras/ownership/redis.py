"""Replicas that share cameras by leases in Redis: each camera has one owner, and they are spread evenly.

A replica owns a camera for as long as it renews the lease. It does so from a thread of its own, several times in the
time that a lease lasts, and takes a lease that has ended. Before an owner tells anything that it has seen, it makes
sure that its lease has not ended meanwhile: a process that was suspended finds out here that it is no longer the owner.
Its late states are refused by their generation, see `StoredState`.

While Redis is away nobody can take a camera, so owners go on, and tell what they see. A replica that alone is cut off
from Redis cannot know that: it goes on, while another takes its cameras when their leases have ended. Both then watch,
and the one with the older generation stops as soon as it reaches Redis again. Two trackers would give different events
the same ids, so a replica that is not `certain` marks those of its events. Standing still instead would lose the events
of all cameras whenever Redis is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

from service.cameras.ownership.base import CameraKeeper, OwnedCameras, Ownership
from service.cameras.ownership.redis_lease_thread import CameraLease, LeaseRound, LeaseThread, LeaseTimes, lease_clock
from service.process.supervisor import Supervisor, run_on_thread

log = logging.getLogger(__name__)

_MARGIN_S = 0.05
"""A lease counts as ended this long before it does: telling something takes a moment."""


class RedisOwnership(Ownership):
    """Shares the cameras with the other replicas of the Redis at `url`.

    changed: called for each camera that was `taken`, `handed-over` or `lost`.
    """

    shared = True

    def __init__(
        self,
        url: str,
        replica: str,
        *,
        supervisor: Supervisor,
        changed: Callable[[str], None] = lambda _: None,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = lease_clock,
    ) -> None:
        super().__init__(replica)
        self.times = times or LeaseTimes()
        self._clock = clock
        self._supervisor = supervisor
        self._count = changed
        self._keeper: CameraKeeper | None = None
        self._thread = LeaseThread(url, replica, self._told, self.times, clock)
        self._owned = OwnedCameras(supervisor, self._release)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._held: dict[str, int] = {}
        self._until = -1.0  # on the clock, when the leases in `_held` end unless they are renewed
        self._away = ""  # why Redis is away now
        self._outage = False  # it was logged that Redis is away
        self._alone = True  # there was no other replica when Redis was reached last
        self._leases: Mapping[str, CameraLease] = {}
        self._names: frozenset[str] = frozenset()
        self._given_back: dict[str, int] = {}
        self._leaving = False
        self._changed = asyncio.Event()

    async def start(self, keeper: CameraKeeper) -> None:
        self._loop = asyncio.get_running_loop()
        self._keeper = keeper
        self._owned.start(keeper)
        self._thread.beat()
        self._task = self._supervisor.keep("camera leases", self._run_thread)

    def know(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._thread.know(self._names)

    def generation(self, name: str) -> int:
        return self._owned.generation(name)

    def owner(self, name: str) -> str:
        lease = self._leases.get(name)
        return "" if lease is None else lease.owner.strip("-")

    @property
    def certain(self) -> bool:
        return not self._away or self._alone or not self._has_ended()

    async def confirm(self, name: str, generation: int) -> bool:
        while self._held.get(name) == generation:
            if self._away or not self._has_ended():
                return True
            await self._changed.wait()
        return False

    async def hand_over(self) -> None:
        self._leaving = True
        self._thread.leave()
        self._owned.want({}, self._held)
        await self._owned.settled()
        while self._thread.giving_back and not self._away:
            await self._changed.wait()

    async def close(self) -> None:
        self._leaving = True
        self._owned.want({}, {})
        await self._owned.settled()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run_thread(self) -> None:
        try:
            await run_on_thread("camera-leases", self._thread.run)
        except asyncio.CancelledError:
            self._thread.stop()
            raise

    def _told(self, told: LeaseRound) -> None:
        """Pass a round on to the event loop. Called by the thread."""
        assert self._loop is not None  # noqa: S101 - tells the type checker
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._apply, told)

    def _apply(self, told: LeaseRound) -> None:
        self._thread.beat()
        self._reached(told)
        if told.hung:
            log.error("the event loop hung for more than %g s: other replicas get the cameras", self.times.hang)
        if not told.failed:
            self._until, self._leases, self._alone = told.until, told.leases, told.replicas <= 1
            if self._keeper is not None:
                self._keeper.see_version(told.entries)
        # a round may have been under way when a lease was given back
        self._given_back = {n: number for n, number in self._given_back.items() if told.held.get(n) == number}
        held = {name: number for name, number in told.held.items() if name not in self._given_back}
        for name in self._held.keys() - held.keys():
            if name in self._names:
                log.warning("the camera %s is no longer served here, but by %s", name, self.owner(name) or "nobody")
                self._count("lost")
        for name in held.keys() - self._held.keys():
            log.info("the camera %s is served here now (ownership %d)", name, held[name])
            self._count("taken")
        self._held = held
        passing = {name for name in held if name in self._leases and self._leases[name].next_owner}
        wanted = {name: number for name, number in held.items() if name in self._names and name not in passing}
        self._owned.want({} if self._leaving else wanted, held)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _has_ended(self) -> bool:
        """The leases of this replica have ended, as far as it knows."""
        return self._clock() + _MARGIN_S >= self._until

    def _release(self, name: str, generation: int) -> None:
        """Give back the lease of a camera that is no longer served here."""
        lease = self._leases.get(name)
        log.info("the camera %s is handed over to %s", name, (lease and lease.next_owner) or "the other replicas")
        self._count("handed-over")
        self._held.pop(name, None)
        self._given_back[name] = generation
        self._thread.release(name, generation)

    def _reached(self, told: LeaseRound) -> None:
        """Log when Redis is away, and when it is back."""
        self._away = told.away
        if told.away and not self._outage:
            text = "Redis is away (%s): this replica goes on with %d cameras, and takes no others"
            log.warning(text, told.away, len(self._held))
            self._outage = True
        if not told.failed and self._outage:
            log.warning("Redis is back")
            self._outage = False
