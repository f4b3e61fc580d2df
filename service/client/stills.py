"""POST /pose: the request, and reading the response."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

import httpx

from .attempts import Attempts, reason, retry_after
from .errors import ProblemError
from .results import UNREADABLE, PoseResult, read_pose

_CONNECT_S = 2.0
"""Time limit of connecting to a server."""
_MOST_MS = 120_000
"""The longest deadline that a server accepts. With a longer one, an attempt can end before the deadline."""
_TEMPORARY = (429, 502, 503, 504)
"""Statuses after which to retry, here or on another server. The request is idempotent."""


class Parameters(TypedDict, total=False):
    """Parameters of a request, see GET /docs. The server has defaults for all of them."""

    model: str
    skeleton: str
    min_score: float
    max_people: int
    priority: Literal["still", "bulk"]


class PoseRequest:
    """The request for one image, with all its attempts.

    image: an encoded image, or the file that has it. Raises OSError, and TypeError for a file name as str.
    """

    def __init__(self, image: bytes | Path, parameters: Parameters, attempts: Attempts) -> None:
        if isinstance(image, str):
            raise TypeError(f"an image is bytes or a Path; for a file say Path({image!r})")
        self.attempts = attempts
        self._data = image.read_bytes() if isinstance(image, Path) else image
        self._parameters = parameters

    def arguments(self) -> dict[str, Any]:
        """The arguments of `httpx.post` for the next attempt."""
        left = max(self.attempts.left, 0.001)
        return {
            "url": f"{self.attempts.url}/pose",
            "content": self._data,
            "params": {**self._parameters, "timeout_ms": min(max(1, int(1e3 * left)), _MOST_MS)},
            "timeout": httpx.Timeout(left, connect=min(left, _CONNECT_S)),
        }

    def read(self, response: httpx.Response) -> PoseResult | float:
        """Return the result, or the seconds to wait before the next attempt. Raises ProblemError, UnavailableError."""
        if response.status_code == httpx.codes.OK:
            try:
                return read_pose(response.json())
            except UNREADABLE as error:
                raise ProblemError(response.status_code, "", f"{response.url} gave no result of Posewire's") from error
        problem = _problem(response)
        if response.status_code in _TEMPORARY:
            return self.attempts.failed(str(problem), retry_after(response.headers))
        raise problem

    def lost(self, error: Exception) -> float:
        """Return the seconds to wait before the next attempt, after one without a response. Raises UnavailableError."""
        return self.attempts.failed(reason(self.attempts.url, error))


def _problem(response: httpx.Response) -> ProblemError:
    try:
        document = response.json()
        kind = str(document["type"]).rpartition("/")[2]
        return ProblemError(response.status_code, kind, str(document.get("detail") or document["title"]))
    except UNREADABLE:  # perhaps the answer of a proxy
        return ProblemError(response.status_code, "", response.reason_phrase)
