"""Webhooks: each event as a CloudEvent 1.0 in an HTTP request, signed as in Standard Webhooks."""

from __future__ import annotations

import asyncio
import base64
import hmac
import math
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import httpx
import orjson

from service import __version__
from service.events.entries import WebhookEntry, signing_key
from service.events.event import DROPPED, PublishedEvent, iso
from service.events.sinks.base import Outcomes, SinkAwayError, problem, trusted

_TOGETHER = 8
"""Requests under way at once, of different sources."""
_MOST_ANSWER = 65_536
"""Bytes of an answer that are read. They mean nothing, but a connection can be used again only after its answer."""
_TEMPORARY = frozenset((408, 425, 429))


def cloud_event(event: PublishedEvent) -> dict[str, Any]:
    """The event in CloudEvents' JSON format (structured mode)."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.kind if event.kind == DROPPED else f"posewire.{event.kind}",
        "time": iso(event.time),
        "datacontenttype": "application/json",
        "data": event.data,
    }


def signature(key: bytes, event: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature. event: its id. timestamp: seconds since 1970, as in webhook-timestamp."""
    signed = b".".join((event.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


class WebhookSink:
    """Posts each event to a URL. Those of one source go one after the other; redirects are not followed.

    clock: seconds since 1970, for the signature.
    """

    def __init__(self, entry: WebhookEntry, clock: Callable[[], float] = time.time) -> None:
        self._entry = entry
        self._url = entry.url.get_secret_value()
        self._key = None if entry.secret is None else signing_key(entry.secret)
        self._seconds = entry.timeout_seconds
        self._clock = clock
        self._opened: httpx.AsyncClient | None = None

    async def tend(self, states: Mapping[str, Mapping[str, Any] | None]) -> None:
        """See Sink. There is nothing to tell."""

    async def send(self, events: Sequence[PublishedEvent], outcomes: Outcomes) -> None:
        """See Sink."""
        ordered = sorted(events, key=attrgetter("source"))  # stable: the order of each source is kept
        sources = [list(group) for _, group in groupby(ordered, key=attrgetter("source"))]
        slots = asyncio.Semaphore(_TOGETHER)

        async def send_source(group: Sequence[PublishedEvent]) -> None:
            async with slots:
                for event in group:
                    if outcomes.stopping:
                        return
                    await self._post(event, outcomes)

        results = await asyncio.gather(*map(send_source, sources), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            await self.close()  # the authority's certificate may be another by the next try
            raise max(failed, key=lambda error: error.retry_after if isinstance(error, SinkAwayError) else math.inf)

    async def close(self) -> None:
        """See Sink."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    def _client(self) -> httpx.AsyncClient:
        """The connections; new ones after `close`. Raises SinkAwayError."""
        if self._opened is None:
            headers = {name: value.get_secret_value() for name, value in self._entry.headers.items()}
            self._opened = httpx.AsyncClient(
                headers={"user-agent": f"posewire/{__version__}", "accept-encoding": "identity"} | headers,
                timeout=self._seconds,
                follow_redirects=False,
                trust_env=False,
                verify=trusted(self._entry.certificate),
                limits=httpx.Limits(max_connections=_TOGETHER),
            )
        return self._opened

    async def _post(self, event: PublishedEvent, outcomes: Outcomes) -> None:
        """Send one event. Raises SinkAwayError, also if it is refused and not given up."""
        body = orjson.dumps(cloud_event(event))
        now = int(self._clock())
        headers = {"content-type": "application/cloudevents+json", "webhook-id": event.id}
        headers["webhook-timestamp"] = str(now)
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, event.id, now, body)
        try:
            async with asyncio.timeout(self._seconds):
                status, retry_after = await self._ask(headers, body)
        except (TimeoutError, httpx.TimeoutException):
            raise SinkAwayError(f"it did not answer within {self._seconds:g} s") from None
        except httpx.HTTPError as error:  # its message may have the URL
            raise SinkAwayError(f"the request failed: {problem(error)}") from None
        if 200 <= status < 300:
            outcomes.delivered(event)
        elif status in _TEMPORARY or status >= 500 or not outcomes.refused(event, f"it answered {status}"):
            raise SinkAwayError(f"it answered {status}", retry_after)

    async def _ask(self, headers: Mapping[str, str], body: bytes) -> tuple[int, float]:
        """Return the status, and the seconds after which to try again. The answer must be whole, but may be long."""
        async with self._client().stream("POST", self._url, content=body, headers=headers) as response:
            async for _ in response.aiter_raw():
                if response.num_bytes_downloaded > _MOST_ANSWER:
                    break
            return response.status_code, self._retry_after(response.headers.get("retry-after", ""))

    def _retry_after(self, text: str) -> float:
        """Seconds of the header Retry-After: a number, or a date. 0 if there is none."""
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock())
        except (ValueError, OverflowError):
            return 0.0
