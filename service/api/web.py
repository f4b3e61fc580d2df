"""The page at /, the files that it loads, and the browser client /client.js: the files of `service/web`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Request
from starlette.responses import Response

router = APIRouter()

_FOLDER = Path(__file__).parents[1] / "web"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
"""Types of the files that are served; `package.json`, for npm, is not."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page runs no inline script or style, loads only from this server, and shows pictures and videos of the user."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served. headers: all but those of its length."""

    content: bytes
    headers: Mapping[str, str]


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    headers = {
        "content-type": _MEDIA_TYPES[path.suffix],
        "etag": f'"{hashlib.sha256(content).hexdigest()[:20]}"',
        "cache-control": "no-cache",  # a browser asks each time, so all files are of one version after an update
    }
    if path.suffix == ".html":
        headers |= {"content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
    return Asset(content, MappingProxyType(headers))


def _path(file: Path) -> str:
    name = file.relative_to(_FOLDER).as_posix()
    return "/" if name == "index.html" else f"/{name}"


ASSETS: Mapping[str, Asset] = MappingProxyType(
    {_path(file): _read(file) for file in sorted(_FOLDER.rglob("*")) if file.suffix in _MEDIA_TYPES}
)
"""The files by the path at which they are served. They need no API key: the page asks its user for one."""


async def asset(request: Request) -> Response:
    """A file, or 304 if the browser has it."""
    found = ASSETS[request.scope["path"]]
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if found.headers["etag"] in known or "*" in known:
        return Response(status_code=304, headers=dict(found.headers))
    return Response(found.content, headers=dict(found.headers))


for _served in ASSETS:
    router.add_api_route(_served, asset, include_in_schema=False)
