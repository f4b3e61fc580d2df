"""The images in a request's body: raw, multipart, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import orjson
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.api.problems import ProblemError
from service.config import Settings

RAW_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff")

_UNTOLD = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Types of bodies whose client did not say what they are; the last is what `curl --data-binary` sends."""
_PLAIN = ("", "identity")
"""Content-Encodings of a body that is as it is. What others unpack to has no bound, and pictures gain nothing."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The encoded images of a request. several: the client sent a list and gets one back."""

    images: Sequence[bytes]
    several: bool


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body. Raises ProblemError as soon as it is larger than the limit, before the rest is read, and
    ClientDisconnect.
    """
    limit = int(settings.max_body_mb * 1e6)
    too_large = ProblemError("too-large", f"the body is larger than the {settings.max_body_mb:g} MB allowed here")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    chunks = []
    size = 0
    more = True
    while more:  # as `request.stream` does, without its generator: this stands before every answer
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_upload(request: Request, settings: Settings) -> Upload:
    """The images of a request. Raises ProblemError for a body that holds none, or too many."""
    if (packed := request.headers.get("content-encoding", "").strip().lower()) not in _PLAIN:
        raise ProblemError("not-an-image", f"Content-Encoding {packed} is not accepted; send the body as it is")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        upload = await _from_multipart(request, settings)
    elif media_type == "application/json":
        upload = _from_json(await read_body(request, settings))
    elif media_type in _UNTOLD or media_type.startswith("image/"):  # of which kind, its first bytes tell
        upload = Upload([await read_body(request, settings)], several=False)
    else:
        raise ProblemError(
            "not-an-image",
            f"Content-Type {media_type} is not accepted; send {', '.join(RAW_TYPES)}, multipart/form-data or "
            "application/json",
        )
    if not upload.images:
        raise ProblemError("bad-parameter", "the body holds no image; name the multipart field or JSON member `image`")
    if len(upload.images) > settings.max_images:
        raise ProblemError(
            "too-large", f"{len(upload.images)} images in one request; at most {settings.max_images} are allowed here"
        )
    return upload


async def _from_multipart(request: Request, settings: Settings) -> Upload:
    body = await read_body(request, settings)  # bounded first: the parser would spool any amount to disk

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    parser = MultiPartParser(request.headers, whole(), max_files=4 * settings.max_images, max_fields=64)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ProblemError("bad-request", f"the multipart body cannot be parsed: {error.message}") from error
    try:
        parts = [part for part in form.getlist("image") if isinstance(part, UploadFile)]
        images = [await part.read() for part in parts]
    finally:
        await form.close()
    return Upload(images, several=len(images) != 1)


def _from_json(body: bytes) -> Upload:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProblemError("bad-request", f"the body is not JSON: {error}") from error
    if not isinstance(document, dict) or len(document.keys() & {"image", "images"}) != 1:
        raise ProblemError("bad-parameter", 'the JSON body is {"image": BASE64} or {"images": [BASE64, ...]}')
    several = "images" in document
    values = document["images"] if several else [document["image"]]
    if not isinstance(values, list):
        raise ProblemError("bad-parameter", "`images` is a list of base64 strings")
    return Upload([_from_base64(value) for value in values], several)


def _from_base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise ProblemError("bad-parameter", f"an image in JSON is a base64 string, not {type(value).__name__}")
    if value.startswith(("http:", "https:", "file:", "ftp:")):
        raise ProblemError("bad-parameter", "this server fetches no URLs; send the image itself, base64-encoded")
    _, comma, payload = value.partition(",")  # a data: URL, as a browser's canvas gives
    try:
        return base64.b64decode(payload if comma else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(
            "bad-parameter", f"an image is not valid base64 (with + and /, without line breaks): {error}"
        ) from error
