"""POST /pose: what is sent, and what the answer means."""

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
"""How long to knock at one server before another try."""
_MOST_MS = 120_000
"""The longest deadline that a server takes; one try may end before all of a longer one is over."""
_PASSING = (429, 502, 503, 504)
"""What another try, or another server, may answer better. To ask twice does no harm: it changes nothing."""


class Parameters(TypedDict, total=False):
    """What can be asked of a still; what is left out is the server's choice. See GET /docs."""

    model: str
    skeleton: Literal["native", "coco-17"]
    min_score: float
    max_people: int
    priority: Literal["still", "bulk"]


@dataclass(frozen=True, slots=True)
class Still:
    """An image, encoded, and what is asked of it."""

    data: bytes
    parameters: Parameters

    @staticmethod
    def of(image: bytes | Path, parameters: Parameters) -> Still:
        """An image that is encoded already, or a file of one. Raises OSError, and TypeError for a name of a file."""
        if isinstance(image, str):
            raise TypeError(f"an image is bytes or a Path; for a file say Path({image!r})")
        return Still(image.read_bytes() if isinstance(image, Path) else image, parameters)

    def request(self, attempts: Attempts) -> dict[str, Any]:
        """What `httpx` posts in this try."""
        left = max(attempts.left, 0.001)
        return {
            "url": f"{attempts.url}/pose",
            "content": self.data,
            "params": {**self.parameters, "timeout_ms": min(max(1, int(1e3 * left)), _MOST_MS)},
            "timeout": httpx.Timeout(left, connect=min(left, _CONNECT_S)),
        }


def read_answer(response: httpx.Response, attempts: Attempts) -> PoseResult | float:
    """The result, or the seconds to wait before the next try. Raises ProblemError, UnavailableError."""
    if response.status_code == httpx.codes.OK:
        try:
            return read_pose(orjson.loads(response.content))
        except UNREADABLE as error:
            raise ProblemError(response.status_code, "", f"{response.url} gave no result of Posewire's") from error
    problem = _problem(response)
    if response.status_code in _PASSING:
        return attempts.failed(str(problem), _retry_after(response))
    raise problem


def _problem(response: httpx.Response) -> ProblemError:
    try:
        document = orjson.loads(response.content)
        kind = str(document["type"]).rpartition("/")[2]
        return ProblemError(response.status_code, kind, str(document.get("detail") or document["title"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):  # of a proxy, perhaps
        return ProblemError(response.status_code, "", response.reason_phrase)


def _retry_after(response: httpx.Response) -> float:
    """Seconds; 0 where none are named. A date, which no server of ours sends, counts as none."""
    named = response.headers.get("Retry-After", "")
    return float(named) if named.isdecimal() else 0.0
