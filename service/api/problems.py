"""Errors as RFC 9457 problem documents: a stable type, the reason, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Send

from service.batching import ClosedError, DeadlineExceededError, OverloadedError
from service.media.image_files import ImageError, ImageTooLargeError, NotAnImageError
from service.observability.logs import request_id
from service.offline.jobs.job import DiskFullError
from service.quota import QuotaExceededError
from service.streams.options import complaint

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `help` is part of the response to GET on its type."""

    status: HTTPStatus
    title: str
    help: str


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "undecodable-image": Kind(
            HTTPStatus.BAD_REQUEST, "The image cannot be decoded",
            "The bytes begin like an image but are truncated or corrupt. Send the whole file, unchanged.",
        ),
        "bad-request": Kind(
            HTTPStatus.BAD_REQUEST, "The request cannot be read",
            "The body is not what its Content-Type says. `detail` names the place.",
        ),
        "unauthorized": Kind(
            HTTPStatus.UNAUTHORIZED, "An API key is needed",
            "Send `Authorization: Bearer KEY` or `X-API-Key: KEY` with a key that this server accepts.",
        ),
        "admin-only": Kind(
            HTTPStatus.FORBIDDEN, "This takes an admin's API key",
            "Make one with `posewire key --admin`, give its digest with `admin:` before it to the server in "
            "POSEWIRE_API_KEYS or in POSEWIRE_API_KEYS_FILE, and send the key.",
        ),
        "forbidden-origin": Kind(
            HTTPStatus.FORBIDDEN, "A page of another site may not do this",
            "Name the site's origin in POSEWIRE_CORS_ORIGINS on the server.",
        ),
        "not-found": Kind(HTTPStatus.NOT_FOUND, "There is nothing here", "GET /docs lists what this server answers."),
        "unknown-model": Kind(
            HTTPStatus.NOT_FOUND, "This model is not served",
            "GET /models lists the served ones; `posewire serve --model NAME` serves another.",
        ),
        "unknown-skeleton": Kind(
            HTTPStatus.NOT_FOUND, "The results cannot have this skeleton",
            "GET /skeletons lists what there is. A model's keypoints become those of another skeleton by their names, "
            "or by the `mapping` of [skeletons.NAME] in its catalogue file.",
        ),
        "method-not-allowed": Kind(
            HTTPStatus.METHOD_NOT_ALLOWED, "This method is not allowed here", "`Allow` names the methods that are."
        ),
        "not-ready": Kind(
            HTTPStatus.CONFLICT, "The job has no such result",
            "Wait until the job is done, which GET /videos/ID/events tells. A failed job has no results.",
        ),
        "camera-conflict": Kind(
            HTTPStatus.CONFLICT, "This cannot be done to the camera",
            "Cameras of the file that POSEWIRE_CAMERAS names are changed there: edit it, and send the server SIGHUP. "
            "POSEWIRE_MAX_CAMERAS bounds their number.",
        ),
        "too-large": Kind(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too many bytes or pixels",
            "Send a smaller image or a shorter video, or raise POSEWIRE_MAX_BODY_MB, POSEWIRE_MAX_PIXELS_M, "
            "POSEWIRE_MAX_VIDEO_MB, POSEWIRE_MAX_VIDEO_MINUTES or POSEWIRE_VIDEOS_GB on the server.",
        ),
        "not-a-video": Kind(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The video cannot be read",
            "Send a whole video file, such as MP4, MOV, MKV or WebM: raw, or as multipart field `file`.",
        ),
        "not-an-image": Kind(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "This is not an image",
            "Send JPEG, PNG, WebP, BMP or TIFF: raw, as multipart field `image`, or as base64 in JSON.",
        ),
        "bad-parameter": Kind(
            HTTPStatus.UNPROCESSABLE_ENTITY, "A parameter is wrong",
            "`detail` names the parameter and what it takes; GET /docs has them all.",
        ),
        "too-slow": Kind(
            HTTPStatus.REQUEST_TIMEOUT, "The request comes too slowly",
            "Send the whole request without pauses; `detail` says how much time there is.",
        ),
        "url-too-long": Kind(
            HTTPStatus.REQUEST_URI_TOO_LONG, "The URL is too long", "Send images and lists in the body."
        ),
        "head-too-large": Kind(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large",
            "Send fewer and shorter headers; cookies of other sites are not needed here.",
        ),
        "rate-limited": Kind(
            HTTPStatus.TOO_MANY_REQUESTS, "Too many requests",
            "This client asks too often, or has as much under way as one client may. Wait for `Retry-After` seconds.",
        ),
        "internal": Kind(
            HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed",
            "This is a defect or a broken model file; the server's log has the rest under this request id.",
        ),
        "overloaded": Kind(
            HTTPStatus.SERVICE_UNAVAILABLE, "The server is busy",
            "Try again after `Retry-After` seconds, with a longer timeout_ms, or on another replica.",
        ),
        "no-picture": Kind(
            HTTPStatus.SERVICE_UNAVAILABLE, "The camera has no picture now",
            "It is connecting, lost or paused; `detail` and GET /cameras/NAME tell. Try again after `Retry-After`.",
        ),
        "disk-full": Kind(
            HTTPStatus.INSUFFICIENT_STORAGE, "The server's disk is full",
            "Try again later, delete video jobs that are done, or give the server more room at POSEWIRE_DATA.",
        ),
        "deadline-passed": Kind(
            HTTPStatus.GATEWAY_TIMEOUT, "The deadline passed",
            "The answer was not ready within timeout_ms. Give it more, or send smaller images.",
        ),
    }
)  # fmt: skip


class ApiError(Exception):
    """Ends a request with a problem document. kind: a key of KINDS, else KeyError is raised."""

    def __init__(self, kind: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status = int(KINDS[kind].status)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}

    def document(self) -> dict[str, Any]:
        kind = KINDS[self.kind]
        members = {"type": f"/problems/{self.kind}", "title": kind.title, "status": self.status, "detail": self.detail}
        identity = {"request_id": current} if (current := request_id.get()) else {}
        return members | identity

    def response(self) -> Response:
        return Response(orjson.dumps(self.document()), self.status, self._headers())

    async def send(self, send: Send) -> None:
        """Send the response without a Response object, as most responses under overload are errors."""
        body = orjson.dumps(self.document())
        headers = [(name.encode(), value.encode()) for name, value in self._headers().items()]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": MEDIA_TYPE, **self.headers}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.kind == "unauthorized":
            headers["www-authenticate"] = "Bearer"
        return headers


_MOST_COMPLAINTS = 8
_LONGEST_COMPLAINT = 200
"""Characters."""


def bad_parameter(errors: Sequence[Any], *, skip: int = 0) -> ApiError:
    """Return pydantic's errors as one ApiError. skip: leading parts of each location that mean nothing to clients."""
    details = [
        f"{'.'.join(str(part) for part in error['loc'][skip:])[:_LONGEST_COMPLAINT]}: {complaint(error)}"
        for error in errors[:_MOST_COMPLAINTS]
    ]
    if len(errors) > _MOST_COMPLAINTS:
        details.append(f"and {len(errors) - _MOST_COMPLAINTS} more")
    return ApiError("bad-parameter", "; ".join(details))


def problem_of(error: BaseException) -> ApiError | None:
    """Return the ApiError for an error of another package, or None for a defect of the server."""
    detail = str(error)
    match error:
        case ApiError():
            return error
        case ImageTooLargeError():
            return ApiError("too-large", detail)
        case NotAnImageError():
            return ApiError("not-an-image", detail)
        case ImageError():
            return ApiError("undecodable-image", detail)
        case QuotaExceededError(reason="share"):
            return ApiError("rate-limited", detail, retry_after_s=error.retry_after_s)
        case OverloadedError():
            return ApiError("overloaded", detail, retry_after_s=error.retry_after_s)
        case DiskFullError():
            return ApiError("disk-full", detail, retry_after_s=60.0)
        case DeadlineExceededError():
            return ApiError("deadline-passed", detail)
        case MemoryError():
            return ApiError("overloaded", "this server has no memory left; try again later", retry_after_s=1.0)
        case ClosedError():
            return ApiError("overloaded", "this server is shutting down; try another", retry_after_s=1.0)
    return None
