"""Finds the people of a camera at a server, by its stream protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from engines.poses import Poses
from engines.skeletons import Skeleton, define
from service.cameras.camera import Camera, CameraFrame
from service.client import AsyncClient, ClientError, Event, Person, Stream, StreamResult, UnavailableError
from service.media.pixels import encode
from service.streams.rule_options import RulesMessage
from service.watching.frames import WatchedFrame, WatchOptions

_IN_FLIGHT = 3
"""Frames that are sent and have no result. More would only wait at the server."""
_QUALITY = 85
"""Of the JPEGs."""


class RemoteWatcher:
    """Sends frames to a server and receives results, which continue after lost connections.

    The server may be away for long: then a new stream begins, with new ids. model: None for the server's first.
    skeletons: known ones by name, for their limbs. say: called with a line for the user.
    """

    def __init__(
        self,
        client: AsyncClient,
        options: WatchOptions,
        skeletons: Mapping[str, Skeleton],
        *,
        model: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._hello = hello(options, model)
        self._skeletons = skeletons
        self._say = say
        self._number = 0
        self._last = 0

    async def watch(self, camera: Camera) -> AsyncGenerator[WatchedFrame, None]:
        """See Watcher. Raises ClientError if the server cannot be reached at first, or refuses the stream."""
        began = False
        while True:
            try:
                async with self._client.stream(**self._hello) as stream:
                    self._say(f"the server finds people with {stream.welcome['model']}")
                    began = True
                    async for watched in self._watch(camera, stream):
                        yield watched
                return
            except UnavailableError as error:
                if not began:
                    raise
                self._say(f"{error}; a new stream begins when the server is back, with new ids")

    async def _watch(self, camera: Camera, stream: Stream) -> AsyncGenerator[WatchedFrame, None]:
        loop = asyncio.get_running_loop()
        skeleton = self._skeleton(stream.welcome)
        waiting: dict[int, CameraFrame] = {}
        room = asyncio.Event()
        room.set()
        sending = asyncio.create_task(_send(camera, stream, waiting, room), name="posewire-sending")
        try:
            async for result in stream:
                frame = waiting.get(result.frame)
                for number in [number for number in waiting if number <= result.frame]:
                    del waiting[number]
                room.set()
                self._tell(result)
                if frame is None or result.problem:
                    continue
                dropped, self._last = frame.number - self._last - 1, frame.number
                events = [_event(event) for event in result.events]
                people = poses_of(result.people, skeleton)
                age = 1e3 * (loop.time() - frame.arrived)
                members = [_members(person) for person in result.people]
                totals = {"occupancy": result.occupancy, "counts": result.counts}
                totals = {name: values for name, values in totals.items() if values}
                yield WatchedFrame(frame, self._number, people, events, age, dropped, members, totals)
                self._number += 1
            await sending  # raises the camera's error, if it has ended with one
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, ClientError):
                await asyncio.wait([sending])

    def _tell(self, result: StreamResult) -> None:
        if result.gap is not None:
            kept = "kept" if result.gap.kept else "lost"
            self._say(f"no connection for {result.gap.seconds:.1f} s ({result.gap.reason}); identities are {kept}")
        if result.problem:
            self._say(f"the server could not process a frame: {result.problem}")

    def _skeleton(self, welcome: Mapping[str, Any]) -> Skeleton:
        name, keypoints = welcome["skeleton"], tuple(welcome["keypoints"])
        known = self._skeletons.get(name)
        return known if known is not None and known.keypoints == keypoints else define(name, keypoints)


async def _send(camera: Camera, stream: Stream, waiting: dict[int, CameraFrame], room: asyncio.Event) -> None:
    """Send the camera's newest frame whenever there is room for one. Finishes the stream when the camera ends."""
    try:
        async for frame in camera:
            picture = await asyncio.to_thread(encode, frame.pixels, "image/jpeg", quality=_QUALITY)
            waiting[await stream.send(picture, 1e3 * frame.time)] = frame
            if len(waiting) >= _IN_FLIGHT:
                room.clear()
                await room.wait()
    finally:
        stream.finish()


def hello(options: WatchOptions, model: str | None) -> dict[str, Any]:
    """The hello of a stream with these options."""
    smoothing = options.tracking.smoothing
    members = {
        "model": model,
        "skeleton": options.skeleton,
        "min_score": options.min_score,
        "max_people": options.max_people,
        "smoothing": False if smoothing is None else {"min_cutoff": smoothing.min_cutoff, "beta": smoothing.beta},
        "zones": [asdict(zone) for zone in options.tracking.zones],
        "lines": [asdict(line) for line in options.tracking.lines],
        "rules": RulesMessage.of(options.tracking.rules).model_dump() if options.tracking.rules else None,
    }
    return {name: value for name, value in members.items() if value is not None}


def poses_of(people: tuple[Person, ...], skeleton: Skeleton) -> Poses:
    """The people of a result as arrays."""
    points = np.array(
        [[(point.x, point.y, point.score) for point in person.keypoints] for person in people], np.float32
    ).reshape(len(people), len(skeleton), 3)
    metres = [person.keypoints_3d for person in people]
    return Poses(
        keypoints=points[..., :2],
        keypoint_scores=points[..., 2],
        boxes=np.array([person.box for person in people], np.float32).reshape(-1, 4),
        scores=np.array([person.score for person in people], np.float32),
        skeleton=skeleton,
        ids=np.array([-1 if person.id is None else person.id for person in people], np.int64),
        keypoints_3d=np.array(metres, np.float32) if metres and all(m is not None for m in metres) else None,
    )


def _event(event: Event) -> dict[str, Any]:
    members = {name: value for name, value in asdict(event).items() if value is not None}
    values: Mapping[str, Any] = members.pop("values")
    return {**members, **values}


def _members(person: Person) -> dict[str, Any]:
    """What rules say about a person, as in a stream's results."""
    posture = person.posture and {"name": person.posture, "confidence": person.posture_confidence}
    members = {
        "angles": person.angles,
        "angles_3d": person.angles_3d,
        "posture": posture,
        "speed": person.speed,
        "repetitions": person.repetitions,
    }
    return {name: value for name, value in members.items() if value is not None and value != {}}
