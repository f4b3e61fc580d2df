"""Groups of streams of one client: their trackers share ids, and the people who are absent from all of them.

A group belongs to a client and to one kind of poses and embeddings. Nothing but the colours of the clothes, the
embedding, the id and times of a person is shared, for as long as the stream that the person has left would remember.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from engines.skeletons import Skeleton
from service.tracking import AbsentState
from service.tracking_workers.state import MOST_IDS, TrackingInputs, TrackingOptions
from service.tracking_workers.stream_tracker import TrackingResult

MOST_PEOPLE = 64
"""The most absent people that a group remembers. Above that, it drops those who left first."""
_MOST_IDLE, _MOST_IDLE_OF_CLIENT = 256, 16
"""Groups without a stream that are kept, of all clients and of one."""
_IDLE_S = 3600.0
"""How long they are kept. Streams that are resumed later need to know which ids were given."""
ID_BLOCK = 100
"""Ids that a stream takes from its group at a time."""
_FEWEST_IDS = 50
"""A stream with fewer ids left takes another block, so that this many new people in one frame get ids at once."""
_ALONE = 2**31
"""From here on are the ids that a server gives while it cannot ask the others."""
_RESEND_S = 1.0
"""A tracker is told again who is absent after so long, as its process may have been replaced."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Which streams are of one group. owner: the client, or all cameras of the server."""

    owner: str
    name: str
    skeleton: str
    keypoints: int
    embedder: str = ""
    values: int = 0

    @staticmethod
    def of(owner: str, name: str, skeleton: Skeleton, options: TrackingOptions) -> GroupKey:
        space = options.embedder
        embedder = ("", 0) if space is None else (space.name, space.size)
        return GroupKey(owner, name, skeleton.name, len(skeleton), *embedder)


@dataclass(frozen=True, slots=True)
class AbsentPerson:
    """A person whom no stream of a group sees now.

    left, until: when the person was last seen, and when the group forgets the person, in seconds of the group's clock.
    known_s: seconds in sight before `left`. looks: the colours (K, 4) uint8, then the embedding (D,) int8.
    """

    id: int
    known_s: float
    left: float
    until: float
    looks: bytes


@dataclass(eq=False)
class Group:
    """What the streams of a group share on this server. changed: counts changes. next_id: the first of the next block.

    reserve: blocks that a shared store has given; None if there is no such store. alone: that store cannot be reached.
    added, removed: what the store does not know yet. idle_since: when the last stream has left it.
    """

    key: GroupKey
    clock: Callable[[], float]
    people: dict[int, AbsentPerson] = field(default_factory=dict)
    changed: int = 0
    next_id: int = 1
    streams: int = 0
    reserve: list[int] | None = None
    alone: bool = False
    added: dict[int, AbsentPerson] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)
    idle_since: float = 0.0
    _own_id: int = 0

    def add(self, person: AbsentPerson) -> None:
        self.people[person.id] = person
        if self.reserve is not None:
            self.removed.discard(person.id)
            self.added[person.id] = person
        self._bound()
        self.changed += 1

    def remove(self, number: int) -> None:
        if self.reserve is not None:
            self.added.pop(number, None)
            self.removed.add(number)
        if self.people.pop(number, None) is not None:
            self.changed += 1

    def forget(self) -> None:
        """Drop people whose time is over."""
        now = self.clock()
        over = [person.id for person in self.people.values() if person.until <= now]
        for number in over:
            del self.people[number]
        self.changed += bool(over)

    def replace(self, people: dict[int, AbsentPerson]) -> None:
        """Take over what the store knows. What it has not been told yet is newer."""
        told = {number: person for number, person in people.items() if number not in self.removed} | self.added
        if told.keys() != self.people.keys():
            self.changed += 1
        self.people = told
        self._bound()

    def take_ids(self, least: int) -> int | None:
        """Return the first id of a block from `least` on that no other stream gets; None if there is none yet."""
        if least >= _ALONE or (self.reserve is not None and self.alone and not self.reserve):
            if not self._own_id:  # servers that are apart from each other begin far from each other
                self._own_id = _ALONE + ID_BLOCK * random.randrange((MOST_IDS - _ALONE) // ID_BLOCK // 2)  # noqa: S311
            first = max(self._own_id, least)
            self._own_id = first + ID_BLOCK
            return first
        self.next_id = max(self.next_id, least)
        if self.reserve is None:
            first, self.next_id = self.next_id, self.next_id + ID_BLOCK
            return first
        while self.reserve:
            if (first := self.reserve.pop(0)) >= least:
                return first
        return None

    def _bound(self) -> None:
        for store in (self.people, self.added):
            for person in sorted(store.values(), key=lambda person: person.left)[: max(0, len(store) - MOST_PEOPLE)]:
                del store[person.id]
        if len(self.removed) > 4 * MOST_PEOPLE:
            self.removed.clear()  # the store is away, and forgets them by itself


@dataclass(eq=False)
class GroupMember:
    """A stream of a group, between the group and the stream's tracker. next_id: of the tracker."""

    group: Group
    forget_seconds: float
    next_id: int
    _spare: int = 0
    _told: int = -1
    _told_at: float = -math.inf

    def inputs(self, timestamp: float) -> TrackingInputs:
        """What the tracker gets with a frame. timestamp: of the frame, on the stream's clock."""
        group, now = self.group, self.group.clock()
        group.forget()
        ids = group.take_ids(self.next_id) if self._spare < _FEWEST_IDS else None
        absent = None
        if self._told != group.changed or now - self._told_at >= _RESEND_S:
            absent = self._absent(timestamp - now)
            self._told, self._told_at = group.changed, now
        return TrackingInputs(None, None if ids is None else (ids, ids + ID_BLOCK), absent)

    def learn(self, result: TrackingResult, timestamp: float) -> None:
        """Tell the group what the tracker says of a frame."""
        self._spare, self.next_id = result.spare_ids, result.next_id
        if result.absences is None:
            return
        for number in result.absences.back:
            self.group.remove(number)
        left, now = result.absences.left, self.group.clock()
        for row, number in enumerate(left.ids.tolist()):
            seen = now - (timestamp - float(left.seen[row]))
            looks = left.colours[row].tobytes() + left.embeddings[row].tobytes()
            known = float(left.seen[row] - left.born[row])
            self.group.add(AbsentPerson(number, known, seen, seen + self.forget_seconds, looks))

    def failed(self) -> None:
        """The frame was not tracked: tell the tracker everything again."""
        self._spare, self._told = 0, -1

    def _absent(self, offset: float) -> AbsentState:
        """Everybody absent, with times on the stream's clock. offset: from the group's clock to that."""
        key, people = self.group.key, list(self.group.people.values())
        count, split = len(people), 4 * key.keypoints
        seen = np.array([person.left + offset for person in people], np.float64)
        looks = np.frombuffer(b"".join(person.looks for person in people), np.uint8).reshape(count, split + key.values)
        return AbsentState(
            np.array([person.id for person in people], np.int64),
            seen - np.array([person.known_s for person in people], np.float64),
            seen,
            np.zeros((count, 4), np.float32),
            looks[:, :split].reshape(count, key.keypoints, 4),
            looks[:, split:].view(np.int8),
        )


class Groups:
    """The groups of a server.

    shared: ids come from a store that servers share. clock: returns seconds. joined: called when a stream has joined.
    """

    def __init__(self, *, shared: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.shared = shared
        self.joined: Callable[[], object] = lambda: None
        self._clock = clock
        self._groups: dict[GroupKey, Group] = {}  # those without a stream are in the order in which they lost the last

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def all(self) -> list[Group]:
        """All groups, also those without streams."""
        return list(self._groups.values())

    @contextmanager
    def join(self, key: GroupKey, options: TrackingOptions, next_id: int = 1) -> Iterator[GroupMember]:
        """Make a stream a member for as long as the context lasts. next_id: of its tracker."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, self._clock, reserve=[] if self.shared else None)
        group.streams += 1
        self.joined()
        try:
            yield GroupMember(group, options.forget_seconds, next_id)
        finally:
            group.streams -= 1
            if not group.streams:
                group.idle_since = self._clock()
                self._groups[key] = self._groups.pop(key)
                self.reap()

    def reap(self) -> None:
        """Drop groups that have had no stream for long, and those that are too many."""
        of_client: dict[str, int] = {}
        idle, now = 0, self._clock()
        for key, group in reversed(list(self._groups.items())):
            if group.streams:
                continue
            group.forget()
            count = of_client[key.owner] = of_client.get(key.owner, 0) + 1
            idle += 1
            if now - group.idle_since > _IDLE_S or count > _MOST_IDLE_OF_CLIENT or idle > _MOST_IDLE:
                del self._groups[key]
