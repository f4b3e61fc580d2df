"""The first and last thing a request meets: its id, who sent it, and what is counted and logged of it."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import ProblemError, problem_of
from service.api.state import ServerState
from service.observability.logs import request_id

log = logging.getLogger(__name__)

_OPEN = frozenset({"/livez", "/readyz"})
"""Probes carry no keys and count towards no rate."""
_ROUTES = frozenset({"/pose", "/models", "/skeletons", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"})
"""What metrics name; anything else a client asks for is "other", so that it cannot grow them."""


class Gate:
    """Plain ASGI middleware; every exception of the app ends here as a problem document."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        identity = _request_id(headers.get("x-request-id", ""))
        token = request_id.set(identity)
        status = 499  # the client left before there was an answer

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                marked = MutableHeaders(scope=message)
                marked["X-Request-ID"] = identity
                if self._state.draining:
                    marked["Connection"] = "close"
            await send(message)

        try:
            try:
                scope["state"] = {**scope.get("state", {}), "client": self._client(scope, headers)}
                await self._app(scope, receive, send_marked)
            except ClientDisconnect:
                pass  # nobody is left to be answered
            except Exception as error:
                if status != 499:
                    raise  # the answer has begun; only closing the connection tells the client
                await self._fail(error, scope, receive, send_marked)
        finally:
            seconds = time.perf_counter() - started
            path, peer = scope["path"], (scope.get("client") or ("",))[0]
            self._state.metrics.answered(path if path in _ROUTES else "other", status, seconds)
            if path not in _OPEN and log.isEnabledFor(logging.INFO):
                extra = {"status": status, "ms": round(seconds * 1e3, 1), "client": peer}
                log.info("%s %s %d", scope["method"], path, status, extra=extra)
            request_id.reset(token)

    def _client(self, scope: Scope, headers: Headers) -> str:
        if scope["path"] in _OPEN:
            return ""
        client = self._state.keys.check(headers) or (scope.get("client") or ("",))[0]
        self._state.rate_limit.take(client)
        return client

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        problem = problem_of(error)
        if problem is None:
            log.error("a request failed", exc_info=error)
            problem = ProblemError("internal", "the server failed on this request; its log says why")
        problem.members.setdefault("request_id", request_id.get())
        await problem.response()(scope, receive, send)


def _request_id(given: str) -> str:
    """The client's own id where it can go into a header and a log line, else a new one."""
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return secrets.token_hex(8)
