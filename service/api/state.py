"""The state of a server, which its routes share."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, cast

from starlette.requests import HTTPConnection

from engines.skeletons import Skeleton, derivable
from service.api.connections import Connections
from service.api.problems import ApiError
from service.api.security import ApiKeys, RateLimit
from service.api.watchers import CameraWatchers
from service.cameras.pictures import PictureMaker
from service.cameras.served import ServedCameras
from service.config import Settings
from service.events.events import Events
from service.inference.model_registry import ServedModel, Serving
from service.observability.metrics import Metrics
from service.offline.jobs.video_jobs import VideoJobs
from service.quota import Quota
from service.streams.registry import Streams
from service.streams.tracking_parts import TrackingParts
from service.tracking_workers.pool import TrackingWorkers

if TYPE_CHECKING:
    from service.cameras.ownership.redis_documents import RedisDocuments  # redis is slow to import
    from service.offline.jobs.shared_list import SharedJobs

_MOST_READERS = 256
"""Responses with results or events of video jobs at once, half of them for one client."""
_MOST_CONVERSIONS = 4
"""Processes that convert results of video jobs at once, half of them for one client."""


@dataclass(slots=True)
class ServerState:
    """The parts of a running server.

    connections, requests, memory: quotas that the clients share. `requests` counts POST /pose from the end of the
        body on, `memory` the bytes of bodies, pixels and responses.
    parser: one thread for large forms and JSON. Parsing holds the interpreter's lock most of the time, and more
        threads would keep it from the event loop.
    events: those that leave the server.
    tracking: the embedder, and the groups of streams.
    videos: the video jobs; None if there is no folder for them.
    shared_jobs: the list of all replicas' video jobs; None without Redis.
    camera_documents: what the cameras of other replicas do; None without Redis.
    cameras: those that the server opens itself; None before startup.
    watchers: the connections that watch them. pictures: makes what they see.
    readers: responses with the results and the events of video jobs. Each may hold a file, for as long as it is read.
    conversions: the processes that convert the results of video jobs. A client that does not read its answer holds one.
    serving: the loaded models; None before startup and after shutdown.
    draining: true from SIGTERM on.
    shutdown_deadline: the monotonic time by which the server should have ended after SIGTERM.
    answered: how many POST /pose have ended.
    refused: how many requests got 429 or 503.
    """

    settings: Settings
    metrics: Metrics
    keys: ApiKeys
    rate_limit: RateLimit
    streams: Streams
    tracking_workers: TrackingWorkers
    connections: Connections
    requests: Quota
    memory: Quota
    parser: Executor
    events: Events
    tracking: TrackingParts = field(default_factory=TrackingParts)
    videos: VideoJobs | None = None
    shared_jobs: SharedJobs | None = None
    camera_documents: RedisDocuments | None = None
    cameras: ServedCameras | None = None
    watchers: CameraWatchers = field(default_factory=CameraWatchers)
    pictures: PictureMaker = field(default_factory=PictureMaker)
    readers: Quota = field(default_factory=lambda: Quota("readers of video jobs", _MOST_READERS, 0.5))
    conversions: Quota = field(default_factory=lambda: Quota("conversions of results", _MOST_CONVERSIONS, 0.5))
    serving: Serving | None = None
    draining: bool = False
    shutdown_deadline: float = inf
    answered: int = 0
    refused: int = 0

    @staticmethod
    def of(request: HTTPConnection) -> ServerState:
        """Return the state of the app that serves a request or websocket."""
        return cast(ServerState, request.app.state.server)

    def running(self) -> Serving:
        """Return the served models. Raises ApiError before startup and after shutdown."""
        if self.serving is None:
            raise ApiError("overloaded", "this server is not up; try another", retry_after_s=1.0)
        return self.serving

    def find_model(self, name: str | None) -> ServedModel:
        """Return the served model of that name, or the default for None. Raises ApiError if it is not served."""
        serving = self.running()
        if name is None:
            return serving.default
        if name not in serving.models:
            served = ", ".join(serving.models)
            raise ApiError("unknown-model", f"{name[:100]!r} is not served here; served are: {served}")
        return serving.models[name]

    def find_skeleton(self, served: ServedModel, name: str) -> Skeleton:
        """Return the skeleton for a model's results: its own for "native", else the one of that name.

        Raises ApiError if there is none, or if none of its keypoints can be derived from those of the model.
        """
        if name == "native":
            return served.skeleton
        skeletons = self.running().skeletons
        if name not in skeletons:
            raise ApiError("unknown-skeleton", f"skeleton: {name[:100]!r} is not one of native, {', '.join(skeletons)}")
        if not derivable(served.skeleton, skeletons[name]).any():
            raise ApiError("unknown-skeleton", f"skeleton: no keypoint of {name} is one of {served.skeleton.name}")
        return skeletons[name]

    def unready(self) -> str:
        """Return why this server should get no requests, or an empty string if it is ready."""
        if self.draining:
            return "draining"
        if self.serving is None:
            return "starting"
        # Streams go on without the embedder
        optional = None if self.serving.embedder is None else self.serving.embedder.stage.batcher
        needed = [batcher for batcher in self.serving.batchers if batcher is not optional]
        unhealthy = [f"{batcher.name}: {batcher.health.detail}" for batcher in needed if not batcher.health.ok]
        return "; ".join(filter(None, [*unhealthy, self.tracking_workers.problem]))
