"""The OpenAPI document: what FastAPI derives from the routes, and what all of them have in common."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from service.api.problems import KINDS, MEDIA_TYPE
from service.config import Settings

Document = dict[str, Any]

_COMMON = ("bad-request", "unauthorized", "too-slow", "url-too-long", "rate-limited", "head-too-large", "internal")
"""Kinds of problems that any request may get, whatever it is for."""
_UNAVAILABLE = (429, 503)
_PROBES = ("/livez", "/readyz")
"""Paths that need no API key and have no rate, see gate.py."""
_HEADERS = {
    401: {"WWW-Authenticate": "which scheme the server accepts"},
    **{status: {"Retry-After": "seconds to wait before another try"} for status in _UNAVAILABLE},
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, as `Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "an API key"},
}


def complete(document: Document, settings: Settings, *, keys: bool) -> Document:
    """FastAPI's document with what every route has: its problems, their type and headers, limits and API keys.

    keys: the server asks for API keys.
    """
    document = deepcopy(document)  # parts of it are those of the routes
    for path, item in document["paths"].items():
        for operation in item.values():
            _add_problems(operation, probe=path in _PROBES, keys=keys)
            if keys and path not in _PROBES:
                operation["security"] = [{name: []} for name in _SCHEMES]
    if keys:
        document["components"]["securitySchemes"] = _SCHEMES
    for content in document["paths"]["/pose"]["post"]["requestBody"]["content"].values():
        _bound_lists(content["schema"], settings.max_images)
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no answer is
        document["components"]["schemas"].pop(name, None)
    return document


def _add_problems(operation: Document, *, probe: bool, keys: bool) -> None:
    responses = operation["responses"]
    for kind in _COMMON:
        status = int(KINDS[kind].status)
        if not (status == 401 and (probe or not keys)) and not (status == 429 and probe):
            responses.setdefault(str(status), {"description": KINDS[kind].title})
    for status, response in responses.items():
        if int(status) >= 400 and "schemas/State" not in str(response):  # how /readyz says that it is not ready
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
