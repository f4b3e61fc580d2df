"""What the trackers of streams and cameras of a server have in common: the embedder, and the groups of streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from engines.skeletons import Skeleton
from service.inference.model_registry import ServedModel
from service.inference.people_embedder import PeopleEmbedder
from service.inference.stage import InferenceOptions
from service.inference.video_stage import StreamDecoder
from service.streams.frame_processor import FrameProcessor
from service.streams.groups import GroupKey, GroupMember, Groups
from service.streams.protocol import Hello
from service.tracking.embeddings import EmbeddingSpace
from service.tracking_workers.pool import TrackingWorkers
from service.tracking_workers.state import StreamState, TrackingOptions

_LONGEST_NAME = 64
"""Characters of an embedder's name in the states of streams."""


@dataclass(eq=False)
class TrackingParts:
    """embedder: None for none, or before startup. groups: of streams."""

    groups: Groups = field(default_factory=Groups)
    embedder: PeopleEmbedder | None = None

    @asynccontextmanager
    async def processor(
        self,
        workers: TrackingWorkers,
        owner: str,
        served: ServedModel,
        hello: Hello,
        options: InferenceOptions,
        skeleton: Skeleton,
        state: StreamState | None,
        video: StreamDecoder | None = None,
    ) -> AsyncIterator[FrameProcessor]:
        """Process the frames of a stream, with a tracker of its own, and as a member of the group that its hello names.

        workers: of which one has the tracker. owner: of the group. options, skeleton, video: see FrameProcessor. state:
        which the stream continues from, None for a new one.
        """
        tracking = self._options(hello)
        async with workers.stream(served.skeleton, tracking, state) as tracked:
            with self._member(owner, hello, served.skeleton, tracking, state) as member:
                yield FrameProcessor(
                    served.pipeline, tracked, hello, options, skeleton, video, embedder=self.embedder, member=member
                )

    def _options(self, hello: Hello) -> TrackingOptions:
        if (one := self.embedder) is None:
            return hello.tracking
        space = EmbeddingSpace(one.name[:_LONGEST_NAME], one.size, one.family.middle, one.family.slope)
        return replace(hello.tracking, embedder=space)

    @contextmanager
    def _member(
        self, owner: str, hello: Hello, skeleton: Skeleton, options: TrackingOptions, state: StreamState | None
    ) -> Iterator[GroupMember | None]:
        """The stream's membership in its group; None if it names none."""
        if not hello.group:
            yield None
            return
        key = GroupKey.of(owner, hello.group, skeleton, options)
        with self.groups.join(key, options, 1 if state is None else state.tracker.next_id) as member:
            yield member
