"""The outermost middleware: request ids, authentication, rate limits, error documents, metrics and log lines."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import count

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.addresses import client_of_scope, peer_of
from service.api.origins import allows_origin
from service.api.problems import ApiError, problem_of
from service.api.security import PROBES, RateLimit, RecentClients
from service.api.state import ServerState
from service.api.web import ASSETS
from service.observability.logs import request_id

log = logging.getLogger(__name__)

_REFUSALS = (429, 503)
_ROUTES = frozenset(
    {"/pose", "/models", "/skeletons", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/videos", "/cameras"}
)
"""Paths that are labels of metrics. All others are counted as "other", so that clients cannot add labels."""
_PREFIXES = {"/videos/": "/videos/{id}", "/cameras/": "/cameras/{name}"}
_ENDLESS = "/live.mjpg"
"""Lasts as long as somebody watches, so it has a label of its own."""
_CAMERA_RESULTS = re.compile(r"/cameras/[^/]+/results")

_COSTS = {"/metrics": 20, "/openapi.json": 20, "/docs": 5, "/models": 5, "/skeletons": 5}
"""Cost of a request in units of about 0.2 ms of the event loop; 1 for all other paths."""
_HANDSHAKE_COST = 5
_COSTS_PER_S, _COST_BURST = 200, 500
"""Cost that one client may cause in addition to images: a twentieth of the event loop's time."""
_DELAY_S = 1.0
"""Delay of each request beyond that budget. Refusing a request would take as long as answering it. A waiting connection
costs nothing, and the number of connections is limited.
"""
_COUNTED_ERRORS = frozenset({400, 413, 415, 422})
"""Errors of POST /pose that count as a cheap request: those that only the client can cause."""
_REFUSAL_COST = 5
"""Of a 429 or 503, whose body may have arrived for nothing and whose client may ask again at once, if others are served
meanwhile. A client that is alone is refused at once: nobody is harmed, and it can try its next request sooner.
"""
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_PIECE = 1 << 16
"""Bytes of a response that are given to the transport at a time. The transport buffers a whole body whether or not the
client reads it, and the request's resources would be released before the response was sent.
"""

Direct = Callable[[ServerState, Request], Awaitable[Response]]


class RequestMiddleware:
    """The ASGI application. Wraps the FastAPI app and turns every exception into a problem document.

    `scope["state"]["resources"]` of a request is an ExitStack. It is closed when the response has been sent, or the
    client has disconnected. `scope["state"]["head"]` says that the client wants only the head of the response.
    """

    def __init__(
        self,
        app: FastAPI,
        state: ServerState,
        direct: Mapping[tuple[str, str], Direct],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """direct: handlers by method and path that are called without the app. FastAPI's routing, validation and
        middleware would double the time that an image takes on the event loop.
        """
        self.app = app
        self._state = state
        self._direct = direct
        self._ids = count(1)
        self._costs = RateLimit(_COSTS_PER_S, _COST_BURST, clock)
        self._recent = RecentClients(clock)
        self._sleep = sleep
        self._id_prefix = secrets.token_hex(4)  # differs between processes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and (problem := self._refuse_websocket(scope)) is not None:
            await problem.response()(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._delay_if_over_budget(scope, _HANDSHAKE_COST)
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn sends only the head of the response
        started = time.perf_counter()
        resources = ExitStack()
        current_id = self._request_id(scope["headers"])
        token = request_id.set(current_id)
        status = 499  # the client disconnected before there was a response
        complete = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(b"x-request-id", current_id.encode()), _NO_SNIFFING]
                if self._state.draining:
                    added.append((b"connection", b"close"))
                if self._state.videos is not None and scope["path"].startswith("/videos"):
                    added.append((b"x-posewire-replica", self._state.videos.store.replica.encode()))
                message["headers"] = [*message["headers"], *added]
            elif len(message.get("body", b"")) > _PIECE:
                await _send_pieces(send, message)
                return
            await send(message)

        try:
            try:
                client = self._authenticate(scope)
                known = {"client": client, "resources": resources, "head": method == "HEAD"}
                scope["state"] = {**scope.get("state", {}), **known}
                if (scope["method"], scope["path"]) == ("POST", "/pose"):
                    self._recent.saw(client)
                else:
                    await self._delay_if_over_budget(scope, _COSTS.get(scope["path"], 1))
                if handler := self._direct.get((scope["method"], scope["path"])):
                    response = await handler(self._state, Request(scope, receive))
                    await response(scope, receive, send_with_headers)
                else:
                    await self.app(scope, receive, send_with_headers)
            except ClientDisconnect:
                pass  # no client is left to respond to
            except Exception as error:
                if status == 499:
                    resources.close()
                    await self._send_problem(error, scope, send_with_headers)
                elif complete:  # the app has already sent a response for its own defect
                    log.exception("a request failed")
                else:
                    raise  # part of the response has been sent: uvicorn closes the connection
        finally:
            resources.close()
            seconds = time.perf_counter() - started
            path = scope["path"]
            route = _route(path)
            self._state.metrics.answered(route, status, seconds)
            refused = status in _REFUSALS
            self._state.refused += refused
            # Under overload most requests are refused, and a log line would cost more than the refusal.
            level = logging.DEBUG if refused or path in PROBES else logging.INFO
            if log.isEnabledFor(level):
                extra = {"status": status, "ms": round(seconds * 1e3, 1), "client": peer_of(scope)}
                log.log(level, "%s %s %d", method, path, status, extra=extra)
            request_id.reset(token)

    def _refuse_websocket(self, scope: Scope) -> ApiError | None:
        """Return why a handshake is refused, if it is. The app would answer 403, as if an API key were missing."""
        if scope["path"] != "/stream" and not _CAMERA_RESULTS.fullmatch(scope["path"]):
            return ApiError(
                "not-found",
                f"there is no websocket at {scope['path'][:200]}; see GET /docs/stream",
            )
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if not allows_origin(origin, headers.get("host", ""), self._state.settings.cors_origins):
            return ApiError("forbidden-origin", f"pages of {origin[:100]} may not open streams here")
        return None

    def _authenticate(self, scope: Scope) -> str:
        """Return the client's name, its API key's or its address. Raises ApiError for a bad key or too high a rate."""
        if scope["path"] in PROBES:
            return ""
        key = "" if scope["path"] in ASSETS else self._state.keys.check(Headers(scope=scope))
        client = key or client_of_scope(scope)
        self._state.rate_limit.take(client)
        return client

    def _is_alone(self, scope: Scope) -> bool:
        """True if nobody else is served: there are no streams, and all images of the last seconds are this client's."""
        return not len(self._state.streams) and self._recent.is_alone(scope.get("state", {}).get("client", ""))

    async def _delay_if_over_budget(self, scope: Scope, cost: int) -> None:
        """Charge the client's address, and wait if it has used up its share of the event loop."""
        try:
            self._costs.take(client_of_scope(scope), cost)
        except ApiError:
            await self._sleep(_DELAY_S)

    async def _send_problem(self, error: Exception, scope: Scope, send: Send) -> None:
        problem = problem_of(error)
        if problem is not None and problem.status in _COUNTED_ERRORS:
            await self._delay_if_over_budget(scope, 1)
        elif problem is not None and problem.status in _REFUSALS and not self._is_alone(scope):
            await self._delay_if_over_budget(scope, _REFUSAL_COST)
        if problem is None:
            log.error("a request failed", exc_info=error)
            problem = ApiError("internal", "the server failed on this request; its log says why")
        await problem.send(send)

    def _request_id(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the client's own X-Request-ID if it is short, printable ASCII, or else a new id."""
        given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
        if given and len(given) <= 128 and given.isascii() and given.isprintable():
            return given
        return f"{self._id_prefix}-{next(self._ids):x}"


def _route(path: str) -> str:
    """The label of a path in metrics."""
    for prefix, label in _PREFIXES.items():
        if path.startswith(prefix):
            return f"{label}{_ENDLESS}" if path.endswith(_ENDLESS) else label
    return path if path in _ROUTES else "other"


async def _send_pieces(send: Send, message: Message) -> None:
    """Send a large body in pieces, each when the transport has room. Clients that read too slowly are cut off."""
    body = memoryview(message["body"])
    for at in range(0, len(body), _PIECE):
        more = at + _PIECE < len(body) or message.get("more_body", False)
        await send({"type": "http.response.body", "body": bytes(body[at : at + _PIECE]), "more_body": more})
