"""The first and last thing a request meets: its id, who sent it, and what is counted and logged of it."""

from __future__ import annotations

import asyncio
import logging
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

from service.api.addresses import client_of
from service.api.origins import allows_origin
from service.api.problems import ApiError, problem_of
from service.api.security import RateLimit
from service.api.state import ServerState
from service.observability.logs import request_id

log = logging.getLogger(__name__)

_OPEN = frozenset({"/livez", "/readyz"})
"""Probes carry no keys and count towards no rate."""
_REFUSED = (429, 503)
_ROUTES = frozenset({"/pose", "/models", "/skeletons", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"})
"""What metrics name; anything else a client asks for is "other", so that it cannot grow them."""

_COSTS = {"/metrics": 20, "/openapi.json": 20, "/docs": 5, "/models": 5, "/skeletons": 5}
"""What a request costs its client, in parts of about 0.2 ms of the event loop; 1 for what is not named here."""
_HANDSHAKE_COST = 10
_COSTS_PER_S, _COST_BURST = 200, 250
"""What a client may cost the event loop beside answers to its images: a twentieth of its time."""
_DELAY_S = 1.0
"""How long a client waits for what it asks beyond that. Refusing would take as long as answering, while a
connection that waits costs nothing, and the number of connections is limited.
"""
_FAULT_COSTS = {400: 1, 413: 1, 415: 1, 422: 1, 503: 4}
"""What refusals of POST /pose cost their client: what only it can have caused, and being asked again at once."""
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_PIECE = 1 << 16
"""Bytes of an answer that are handed to the transport at a time. It would take all of it at once, whether the client
reads or not, and what the request holds would be given back before the answer has left.
"""

Direct = Callable[[ServerState, Request], Awaitable[Response]]


class RequestMiddleware:
    """The ASGI application: the app behind it, and every exception as a problem document.

    `state["held"]` of a request's scope is an ExitStack that is closed once the answer has left, or the client has.
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
        """direct: by method and path, what is answered without the app. Its routing, validation and middlewares would
        cost as much again as all else that the event loop does for an image.
        """
        self.app = app
        self._state = state
        self._direct = direct
        self._ids = count(1)
        self._costs = RateLimit(_COSTS_PER_S, _COST_BURST, clock)
        self._sleep = sleep
        self._series = secrets.token_hex(4)  # tells this process's request ids from those of others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "websocket" and (problem := self._no_websocket(scope)) is not None:
            await problem.response()(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._slow_down(scope, _HANDSHAKE_COST)
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = scope["method"]
        if asked == "HEAD":
            scope = {**scope, "method": "GET"}  # of whose answer the server sends the head alone
        started = time.perf_counter()
        held = ExitStack()
        identity = self._request_id(scope["headers"])
        token = request_id.set(identity)
        status = 499  # the client left before there was an answer
        complete = False

        async def send_marked(message: Message) -> None:
            nonlocal status, complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                marks = [(b"x-request-id", identity.encode()), _NO_SNIFFING]
                if self._state.draining:
                    marks.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *marks]
            elif len(message.get("body", b"")) > _PIECE:
                await _send_pieces(send, message)
                return
            await send(message)

        try:
            try:
                scope["state"] = {**scope.get("state", {}), "client": self._client(scope), "held": held}
                if answer := self._direct.get((scope["method"], scope["path"])):
                    response = await answer(self._state, Request(scope, receive))
                    await response(scope, receive, send_marked)
                else:
                    await self._slow_down(scope, _COSTS.get(scope["path"], 1))
                    await self.app(scope, receive, send_marked)
            except ClientDisconnect:
                pass  # nobody is left to be answered
            except Exception as error:
                if status == 499:
                    held.close()
                    await self._fail(error, scope, send_marked)
                elif complete:  # the app has answered for a defect of its own
                    log.exception("a request failed")
                else:
                    raise  # the answer has begun; only closing the connection tells the client
        finally:
            held.close()
            seconds = time.perf_counter() - started
            path, peer = scope["path"], (scope.get("client") or ("",))[0]
            self._state.metrics.answered(path if path in _ROUTES else "other", status, seconds)
            refused = status in _REFUSED  # under overload most are, and a line for each would cost more than refusing
            self._state.refused += refused
            level = logging.DEBUG if refused or path in _OPEN else logging.INFO
            if log.isEnabledFor(level):
                extra = {"status": status, "ms": round(seconds * 1e3, 1), "client": peer}
                log.log(level, "%s %s %d", asked, path, status, extra=extra)
            request_id.reset(token)

    def _no_websocket(self, scope: Scope) -> ApiError | None:
        """Why there is no websocket for this handshake. The app would say 403 to each, as if it needed a key."""
        if scope["path"] != "/stream":
            return ApiError(
                "not-found", f"there is no websocket at {scope['path'][:200]}; GET /docs/stream has the one"
            )
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if not allows_origin(origin, headers.get("host", ""), self._state.settings.cors_origins):
            return ApiError("forbidden-origin", f"pages of {origin[:100]} may not open streams here")
        return None

    def _client(self, scope: Scope) -> str:
        if scope["path"] in _OPEN:
            return ""
        client = self._state.keys.check(Headers(scope=scope)) or client_of((scope.get("client") or ("",))[0])
        self._state.rate_limit.take(client)
        return client

    async def _slow_down(self, scope: Scope, cost: int) -> None:
        """Let a client wait that asks more than the event loop can spare for one."""
        try:
            self._costs.take(client_of((scope.get("client") or ("",))[0]), cost)
        except ApiError:
            await self._sleep(_DELAY_S)

    async def _fail(self, error: Exception, scope: Scope, send: Send) -> None:
        problem = problem_of(error)
        if problem is not None and problem.status in _FAULT_COSTS:
            await self._slow_down(scope, _FAULT_COSTS[problem.status])
        if problem is None:
            log.error("a request failed", exc_info=error)
            problem = ApiError("internal", "the server failed on this request; its log says why")
        await problem.send(send)

    def _request_id(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's own id where it can go into a header and a log line, else a new one."""
        given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
        if given and len(given) <= 128 and given.isascii() and given.isprintable():
            return given
        return f"{self._series}-{next(self._ids):x}"


async def _send_pieces(send: Send, message: Message) -> None:
    """Send a large body, each piece once there is room for it; a client that reads too slowly is cut off meanwhile."""
    body = memoryview(message["body"])
    for at in range(0, len(body), _PIECE):
        more = at + _PIECE < len(body) or message.get("more_body", False)
        await send({"type": "http.response.body", "body": bytes(body[at : at + _PIECE]), "more_body": more})
