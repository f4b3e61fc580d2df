"""The OpenAPI document: what FastAPI derives from the routes, and what it cannot know."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import numpy as np

from service.api.problems import KINDS, MEDIA_TYPE
from service.api.security import PROBES
from service.api.uploads import RAW_TYPES
from service.cameras.entry import CameraEntry
from service.config import Settings
from service.media.pixels import encode

Document = dict[str, Any]

DESCRIPTION = """
Find the people in a picture:

    curl --data-binary @photo.jpg http://localhost:8000/pose

Draw them on it:

    curl --data-binary @photo.jpg -H 'Accept: image/jpeg' http://localhost:8000/pose -o drawn.jpg

Send several pictures at once; a broken one does not affect the others:

    curl -F image=@photo.jpg -F image=@other.jpg http://localhost:8000/pose

Send a whole video; the answer is a job, which shows its progress and has the results:

    curl --data-binary @clip.mp4 'http://localhost:8000/videos?name=clip.mp4'

Have the server open cameras itself: README says how, `GET /cameras` lists them.

Errors are problem documents (RFC 9457); `GET` on their `type` says what to do. Live video goes over `WS /stream`, which
has [a page of its own](docs/stream).
"""

_COMMON = ("bad-request", "unauthorized", "too-slow", "url-too-long", "rate-limited", "head-too-large", "internal")
"""Kinds of problems that any request may get."""
_UNAVAILABLE = (429, 503, 507)
_HEADERS = {
    401: {"WWW-Authenticate": "which scheme the server accepts"},
    **{status: {"Retry-After": "seconds to wait before another try"} for status in _UNAVAILABLE},
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, as `Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "an API key"},
}
_BYTES = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "byte"}


def complete(document: Document, settings: Settings, *, keys: bool) -> Document:
    """Add to FastAPI's document what all routes have: problems with their type and headers, limits, and API keys.

    keys: whether the server asks for API keys.
    """
    document = deepcopy(document)  # it shares parts with the routes
    for path, item in document["paths"].items():
        for operation in item.values():
            _add_problems(operation, probe=path in PROBES, keys=keys)
            if keys and path not in PROBES:
                operation["security"] = [{name: []} for name in _SCHEMES]
    if keys:
        document["components"]["securitySchemes"] = _SCHEMES
    for content in document["paths"]["/pose"]["post"]["requestBody"]["content"].values():
        _bound_lists(content["schema"], settings.max_images)
    entry = CameraEntry.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**entry.pop("$defs", {}), "CameraEntry": entry}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own error documents, which are not used
        document["components"]["schemas"].pop(name, None)
    return document


def _add_problems(operation: Document, *, probe: bool, keys: bool) -> None:
    responses = operation["responses"]
    for kind in _COMMON:
        status = int(KINDS[kind].status)
        if not (status == 401 and (probe or not keys)) and not (status == 429 and probe):
            responses.setdefault(str(status), {"description": KINDS[kind].title})
    for status, response in responses.items():
        if int(status) >= 400 and "schemas/State" not in str(response):  # /readyz answers 503 with a State
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            response["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in _HEADERS.get(int(status), {}).items()
            }
    operation["responses"] = dict(sorted(responses.items()))


def _bound_lists(schema: Document, most: int) -> None:
    for part in (*schema.get("properties", {}).values(), *schema.get("oneOf", ())):
        if part.get("type") == "array":
            part |= {"minItems": 1, "maxItems": most}
        else:
            _bound_lists(part, most)


def _example() -> dict[str, str]:
    """Return a JSON body of POST /pose that works: a grey gradient of 32 x 24 pixels without people."""
    gradient = np.linspace(40, 220, 32, dtype=np.uint8)
    picture = np.broadcast_to(gradient[None, :, None], (24, 32, 3))
    return {"image": base64.b64encode(encode(np.ascontiguousarray(picture), "image/png")).decode()}


POSE_BODIES: Document = {
    **{media_type: {"schema": _BYTES} for media_type in RAW_TYPES},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": {"type": "array", "items": _BYTES}},
        }
    },
    "application/json": {
        "schema": {
            "oneOf": [
                {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {**_BASE64, "minLength": 1}},
                    "not": {"required": ["images"]},
                },
                {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": _BASE64}},
                    "not": {"required": ["image"]},
                },
            ]
        },
        "example": _example(),
    },
}
"""The request bodies that POST /pose takes, by media type."""
