"""What the trackers of streams and cameras of a server have in common: the embedder, and the groups of streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from engines.skeletons import Skeleton
from service.inference.people_embedder import PeopleEmbedder
from service.streams.groups import GroupKey, GroupMember, Groups
from service.streams.protocol import Hello
from service.tracking.embeddings import EmbeddingSpace
from service.tracking_workers.state import StreamState, TrackingOptions

_LONGEST_NAME = 64
"""Characters of an embedder's name in the states of streams."""


@dataclass(eq=False)
class TrackingParts:
    """embedder: None for none, or before startup. groups: of streams."""

    groups: Groups = field(default_factory=Groups)
    embedder: PeopleEmbedder | None = None

    def options(self, hello: Hello) -> TrackingOptions:
        """The options of a stream's tracker."""
        if (one := self.embedder) is None:
            return hello.tracking
        space = EmbeddingSpace(one.name[:_LONGEST_NAME], one.size, one.family.middle, one.family.slope)
        return replace(hello.tracking, embedder=space)

    @contextmanager
    def member(
        self, owner: str, hello: Hello, skeleton: Skeleton, options: TrackingOptions, state: StreamState | None
    ) -> Iterator[GroupMember | None]:
        """The stream's membership in the group that its hello names, None if it names none.

        owner: of the group. skeleton: of the model. state: which the stream continues from, None for a new one.
        """
        if not hello.group:
            yield None
            return
        key = GroupKey.of(owner, hello.group, skeleton, options)
        with self.groups.join(key, options, 1 if state is None else state.tracker.next_id) as member:
            yield member
