"""Streams of a group share ids and absent people; those of other groups and clients do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from engines.skeletons import COCO_17
from service.streams.groups import ID_BLOCK, MOST_PEOPLE, AbsentPerson, Group, GroupKey, GroupMember, Groups
from service.tracking_workers.codec import pack, unpack
from service.tracking_workers.state import TrackingOptions
from service.tracking_workers.stream_tracker import StreamTracker, initial_state
from tests.service.tracking.people import people
from tests.service.tracking.test_gallery import BLUE, GREEN, RED, Shown, frame

OPTIONS = TrackingOptions(grouped=True)


class Watching:
    """A stream of a group without a server. ahead: of its clock before the group's, in seconds."""

    def __init__(self, member: GroupMember, ahead: float = 0.0, state: bytes | None = None) -> None:
        self.member, self._ahead = member, ahead
        self.state = state or pack(initial_state(COCO_17, OPTIONS))
        self._tracker = StreamTracker(COCO_17, OPTIONS, self.state)

    def show(self, *shown: Shown) -> list[int]:
        now = self.member.group.clock() + self._ahead
        poses, pixels = people([(x, 100) for x, _ in shown]), frame(*shown)
        result = self._tracker.update(poses, pixels, now, self.member.inputs(now))
        self.member.learn(result, now)
        self.state = result.state
        return result.ids.tolist()  # type: ignore[no-any-return]


class World:
    """Groups with a clock of their own."""

    def __init__(self, *, shared: bool = False) -> None:
        self.now = 100.0
        self.groups = Groups(shared=shared, clock=lambda: self.now)
        self.stack = ExitStack()

    def join(self, name: str = "hall", owner: str = "client a", ahead: float = 0.0, **more: object) -> Watching:
        options = TrackingOptions(grouped=True, **more)  # type: ignore[arg-type]
        key = GroupKey.of(owner, name, COCO_17, options)
        return Watching(self.stack.enter_context(self.groups.join(key, options)), ahead)

    def walk(self, stream: Watching, seconds: float, *shown: Shown, speed: float = 0.0) -> list[int]:
        """Show people at ten frames a second; the first moves. Returns their last ids."""
        ids: list[int] = []
        for n in range(round(seconds * 10)):
            self.now += 0.1
            moved = [(x + (n / 10 * speed if row == 0 else 0), colour) for row, (x, colour) in enumerate(shown)]
            ids = stream.show(*moved)
        return ids


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.stack:
        yield world


def leave(world: World, stream: Watching) -> None:
    """Somebody in red leaves the picture, and somebody in green stays."""
    [number, other] = world.walk(stream, 2, (200, RED), (320, GREEN), speed=-100)
    assert (number, other) == (1, 2)
    assert world.walk(stream, 1, (320, GREEN)) == [2]


def test_who_leaves_one_picture_and_comes_into_another_keeps_the_id(world: World) -> None:
    door, hall = world.join(), world.join(ahead=5000.0)
    assert world.walk(hall, 1, (300, BLUE)) == [1]
    leave_ids = world.walk(door, 2, (200, RED), (320, GREEN), speed=-100)
    assert leave_ids == [ID_BLOCK + 1, ID_BLOCK + 2]  # an id is given once in a group
    world.walk(door, 1, (320, GREEN))
    world.walk(hall, 4, (300, BLUE))
    assert world.walk(hall, 1.5, (300, BLUE), (100, RED)) == [1, ID_BLOCK + 1]
    assert world.walk(door, 1.5, (320, GREEN), (60, RED)) == [ID_BLOCK + 2, ID_BLOCK + 3]
    unpack(hall.state)


def test_groups_and_clients_do_not_meet(world: World) -> None:
    streams = [world.join(), world.join("yard"), world.join(owner="client b"), world.join(owner="cameras")]
    leave(world, streams[0])
    assert [world.walk(stream, 1.5, (100, RED)) for stream in streams[1:]] == [[1], [1], [1]]


def test_people_are_forgotten_in_time(world: World) -> None:
    door, hall = world.join(forget_seconds=3.0), world.join()
    leave(world, door)
    world.now += 3
    assert world.walk(hall, 1.5, (100, RED)) == [ID_BLOCK + 1]


def test_a_tracker_that_starts_again_hears_of_everybody(world: World) -> None:
    door, hall = world.join(), world.join()
    world.walk(hall, 1, (300, BLUE))
    world.walk(door, 2, (200, RED), (320, GREEN), speed=-100)
    world.walk(door, 1, (320, GREEN))
    world.walk(hall, 0.5, (300, BLUE))
    hall = Watching(hall.member, state=hall.state)  # its process has died
    hall.member.failed()
    assert world.walk(hall, 1.5, (300, BLUE), (100, RED)) == [1, ID_BLOCK + 1]


def test_a_group_is_bounded_and_ends(world: World) -> None:
    groups = world.groups
    with groups.join(GroupKey.of("client a", "hall", COCO_17, OPTIONS), OPTIONS) as member:
        for number in range(1, 3 * MOST_PEOPLE):
            member.group.add(AbsentPerson(number, 1.0, world.now + number, world.now + 600, bytes(4 * 17)))
        assert sorted(member.group.people) == list(range(2 * MOST_PEOPLE, 3 * MOST_PEOPLE))
        assert len(member.inputs(50.0).absent or ()) == MOST_PEOPLE
        world.now += 4000
        assert len(member.inputs(4050.0).absent or ()) == 0
    for n in range(40):
        with groups.join(GroupKey.of("client a", f"{n}", COCO_17, OPTIONS), OPTIONS):
            pass
    assert len(groups) == 16
    world.now += 4000
    groups.reap()
    assert not len(groups)


def test_ids_of_a_server_that_is_apart_from_others_are_far_away() -> None:
    world = World(shared=True)
    with world.stack:
        door = world.join()
        assert world.walk(door, 1, (200, RED)) == [-1]  # the others have not answered yet
        door.member.group.alone = True
        [number] = world.walk(door, 1, (200, RED))
        assert number >= 2**31
        door.member.group.alone, door.member.group.reserve = False, [1, 101]
        assert world.walk(door, 1, (200, RED), (320, GREEN)) == [number, number + 1]


def test_a_block_below_earlier_ids_is_passed_over() -> None:
    group = Group(GroupKey.of("client a", "hall", COCO_17, OPTIONS), lambda: 0.0, reserve=[1, 101, 201])
    assert group.take_ids(150) == 201
    assert group.take_ids(150) is None
    assert group.next_id == 150
    assert np.all(np.array([Group(group.key, lambda: 0.0).take_ids(n) for n in (1, 7)]) == [1, 7])
