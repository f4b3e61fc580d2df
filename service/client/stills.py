"""POST /pose: the request, and reading the response."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import httpx
import orjson

from service.client.attempts import Attempts
from service.client.errors import ProblemError
from service.client.results import UNREADABLE, PoseResult, read_pose

_CONNECT_S = 2.0
"""Time limit of connecting to a server."""
_MOST_MS = 120_000
"""The longest deadline that a server accepts. With a longer one, an attempt can end before the deadline."""
_TEMPORARY = (429, 502, 503, 504)
"""Statuses after which to retry, here or on another server. The request is idempotent."""


class Parameters(TypedDict, total=False):
    """Parameters of a request, see GET /docs. The server has defaults for all of them."""

    model: str
    skeleton: Literal["native", "coco-17"]
    min_score: float
    max_people: int
    priority: Literal["still", "bulk"]


@dataclass(frozen=True, slots=True)
class Still:
    """An encoded image and the parameters of its request."""

    data: bytes
    parameters: Parameters

    @staticmethod
    def of(image: bytes | Path, parameters: Parameters) -> Still:
        """Take an encoded image, or read one from a file. Raises OSError, and TypeError for a file name as str."""
        if isinstance(image, str):
            raise TypeError(f"an image is bytes or a Path; for a file say Path({image!r})")
        return Still(image.read_bytes() if isinstance(image, Path) else image, parameters)

    def request(self, attempts: Attempts) -> dict[str, Any]:
        """The arguments of `httpx.post` for this attempt."""
        left = max(attempts.left, 0.001)
        return {
            "url": f"{attempts.url}/pose",
            "content": self.data,
            "params": {**self.parameters, "timeout_ms": min(max(1, int(1e3 * left)), _MOST_MS)},
            "timeout": httpx.Timeout(left, connect=min(left, _CONNECT_S)),
        }


def read_answer(response: httpx.Response, attempts: Attempts) -> PoseResult | float:
    """Return the result, or the seconds to wait before the next attempt. Raises ProblemError, UnavailableError."""
    if response.status_code == httpx.codes.OK:
        try:
            return read_pose(orjson.loads(response.content))
        except UNREADABLE as error:
            raise ProblemError(response.status_code, "", f"{response.url} gave no result of Posewire's") from error
    problem = _problem(response)
    if response.status_code in _TEMPORARY:
        return attempts.failed(str(problem), _retry_after(response))
    raise problem


def _problem(response: httpx.Response) -> ProblemError:
    try:
        document = orjson.loads(response.content)
        kind = str(document["type"]).rpartition("/")[2]
        return ProblemError(response.status_code, kind, str(document.get("detail") or document["title"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):  # perhaps the answer of a proxy
        return ProblemError(response.status_code, "", response.reason_phrase)


def _retry_after(response: httpx.Response) -> float:
    """The seconds in Retry-After, or 0. Dates are ignored; Posewire does not send them."""
    named = response.headers.get("Retry-After", "")
    return float(named) if named.isdecimal() else 0.0
