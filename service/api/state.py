"""What the routes share: one object a server, made at start and held by the app."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from math import inf
from typing import cast

from starlette.requests import HTTPConnection

from service.api.connections import Connections
from service.api.problems import ApiError
from service.api.security import ApiKeys, RateLimit
from service.config import Settings
from service.inference.model_registry import ServedModel, Serving
from service.observability.metrics import Metrics
from service.quota import Quota
from service.streams.registry import Streams
from service.tracking_workers.pool import TrackingWorkers


@dataclass(slots=True)
class ServerState:
    """The parts of a running server.

    connections, requests (of POST /pose, whose body is there), memory (bytes of bodies, pixels, answers): what clients
    share. parser: one thread for large forms and JSON; it holds the interpreter's lock for most of its time, and more
    threads would keep the event loop from it. draining: true from SIGTERM on. leave_by: the monotonic time at which the
    server should have ended then. answered: POST /pose that have ended. refused: requests that got a 429 or 503.
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
    serving: Serving | None = None
    draining: bool = False
    leave_by: float = inf
    answered: int = 0
    refused: int = 0

    @staticmethod
    def of(request: HTTPConnection) -> ServerState:
        """The state of the app that serves `request`, or a websocket."""
        return cast(ServerState, request.app.state.server)

    def running(self) -> Serving:
        """The served models. Raises ProblemError before start and after shutdown."""
        if self.serving is None:
            raise ApiError("overloaded", "this server is not up; try another", retry_after_s=1.0)
        return self.serving

    def find_model(self, name: str | None) -> ServedModel:
        """The served model of that name, or the default. Raises ProblemError for one that is not served."""
        serving = self.running()
        if name is None:
            return serving.default
        if name not in serving.models:
            served = ", ".join(serving.models)
            raise ApiError("unknown-model", f"{name[:100]!r} is not served here; served are: {served}")
        return serving.models[name]

    def unready(self) -> str:
        """Why this server should get no requests; empty where it should."""
        if self.draining:
            return "draining"
        if self.serving is None:
            return "starting"
        sick = [f"{b.name}: {b.health.detail}" for b in self.serving.batchers if not b.health.ok]
        return "; ".join(filter(None, [*sick, self.tracking_workers.problem]))
