"""Reading the images from a request's body: raw, multipart, or base64 in JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.api.problems import ApiError
from service.api.state import ServerState
from service.config import Settings
from service.quota import Lease

RAW_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff")

_UNSPECIFIED_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Content-Types that do not say what a body is; `curl --data-binary` sends the last."""
_PLAIN = ("", "identity")
"""Accepted Content-Encodings. Others may decompress to any size, and do not make images smaller."""
_SMALL = 100_000
"""Bytes of a form or JSON that are parsed on the event loop, in less than a millisecond."""
_PIECE = 1 << 16
_MOST_VALUES = 1_000
"""Values of a JSON body. Each takes time to parse; bodies that make sense have some 20."""
_COPIES = {"multipart/form-data": 2, "application/json": 3}
"""The memory that a body takes while it is parsed, as a multiple of its size."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The encoded images of a request. several: the client sent a list, and gets a list of results."""

    images: Sequence[bytes]
    several: bool


async def read_upload(server: ServerState, request: Request, lease: Lease, deadline: float) -> Upload:
    """Read the images of a request. lease: grows to the memory that they take. deadline: monotonic seconds.

    Raises ApiError if the body has no image or too many, is too large, arrives too slowly, or cannot be parsed;
    QuotaExceededError if it does not fit into memory, before it is read; and ClientDisconnect.
    """
    settings = server.settings
    if (encoding := request.headers.get("content-encoding", "").strip().lower()) not in _PLAIN:
        raise ApiError("not-an-image", f"Content-Encoding {encoding[:50]} is not accepted; send the body as it is")
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    parse: Callable[[bytes], Upload] | None
    if media_type == "multipart/form-data":
        parse = lambda body: _from_multipart(content_type, body, settings)  # noqa: E731 - a choice of three
    elif media_type == "application/json":
        parse = _from_json
    elif media_type in _UNSPECIFIED_TYPES or media_type.startswith("image/"):  # the first bytes tell the format
        parse = None
    else:
        raise ApiError(
            "not-an-image",
            f"Content-Type {media_type[:50]} is not accepted; send {', '.join(RAW_TYPES)}, multipart/form-data or "
            "application/json",
        )
    body = await read_body(request, settings, lease, deadline, _COPIES.get(media_type, 1))
    if parse is None:
        return Upload([body], several=False)
    if len(body) <= _SMALL:
        upload = parse(body)
    else:
        upload = await asyncio.get_running_loop().run_in_executor(server.parser, parse, body)
    del body
    lease.grow(sum(map(len, upload.images)) - lease.amount)
    if not upload.images:
        raise ApiError("bad-parameter", "the body holds no image; name the multipart field or JSON member `image`")
    if len(upload.images) > settings.max_images:
        raise ApiError(
            "too-large", f"{len(upload.images)} images in one request; at most {settings.max_images} are allowed here"
        )
    return upload


async def read_body(
    request: Request, settings: Settings, lease: Lease, deadline: float, copies: int, most_mb: float = math.inf
) -> bytes:
    """Read the whole body, and fail as soon as it proves too large or too slow. copies: see `_COPIES`."""
    most_mb = min(most_mb, settings.max_body_mb)
    limit = int(most_mb * 1e6)
    too_large = ApiError("too-large", f"the body is larger than the {most_mb:g} MB allowed here")
    declared = request.headers.get("content-length", "")
    if declared.isdigit():
        if int(declared) > limit:
            raise too_large
        lease.grow(copies * int(declared))
    rate, grace = settings.min_kb_per_second * 1e3, settings.stall_seconds
    started = time.monotonic()
    chunks = []
    size = 0
    more = True
    try:
        async with asyncio.timeout(min(grace, deadline - started)) as timeout:
            first_end = timeout.when() or 0.0
            while more:  # like `request.stream`, without the cost of its generator
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise too_large
                if copies * size > lease.amount:
                    lease.grow(copies * size - lease.amount)
                chunks.append(chunk)
                if more := message.get("more_body", False):
                    left = min(grace + size / rate, deadline - started) - min(grace, deadline - started)
                    timeout.reschedule(first_end + left)
    except TimeoutError as error:
        if deadline - started <= grace + size / rate:
            raise ApiError("deadline-passed", "the request's body did not arrive within its deadline") from error
        raise ApiError(
            "too-slow",
            f"the body comes with less than {settings.min_kb_per_second:g} kB/s: {size:,} bytes in "
            f"{time.monotonic() - started:.0f} s",
        ) from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _from_multipart(content_type: str, body: bytes, settings: Settings) -> Upload:
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    images: list[bytes] = []
    is_image = False
    pieces: list[bytes] = []
    try:
        most = 4 * settings.max_images + 64
        # Names of files mean nothing here, and need not be UTF-8
        with PushMultipartParser(boundary, max_segment_count=most, header_charset="latin-1") as parser:
            for at in range(0, len(body), _PIECE):
                for event in parser.parse(body[at : at + _PIECE]):
                    if isinstance(event, MultipartSegment):
                        is_image = event.name == "image" and event.filename is not None
                        pieces = []
                    elif event is None:
                        if is_image:
                            images.append(b"".join(pieces))
                    elif is_image:
                        pieces.append(bytes(event))
    except ParserLimitReached as error:
        raise ApiError("bad-request", "the multipart body has too many parts, or too large headers") from error
    except (MultipartError, ValueError) as error:
        raise ApiError(
            "bad-request", "the multipart body cannot be parsed; it must be RFC 7578, with its boundary in Content-Type"
        ) from error
    return Upload(images, several=len(images) != 1)


def _from_json(body: bytes) -> Upload:
    _check_json(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError("bad-request", f"the body is not JSON: line {error.lineno}, column {error.colno}") from error
    if not isinstance(document, dict) or len(document.keys() & {"image", "images"}) != 1:
        raise ApiError("bad-parameter", 'the JSON body is {"image": BASE64} or {"images": [BASE64, ...]}')
    several = "images" in document
    values = document["images"] if several else [document["image"]]
    if not isinstance(values, list):
        raise ApiError("bad-parameter", "`images` is a list of base64 strings")
    return Upload([_from_base64(value) for value in values], several)


def _check_json(body: bytes) -> None:
    """Raise ApiError if a body has too many values, however they are nested. Counts without parsing."""
    values = 0
    for at in range(0, len(body), _PIECE):
        piece = body[at : at + _PIECE]
        values += piece.count(b",") + piece.count(b"[") + piece.count(b"{")
        if values > _MOST_VALUES:
            raise ApiError("bad-request", f"the JSON body has more than {_MOST_VALUES} values")


def _from_base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise ApiError("bad-parameter", f"an image in JSON is a base64 string, not {type(value).__name__}")
    if value.startswith(("http:", "https:", "file:", "ftp:")):
        raise ApiError("bad-parameter", "this server fetches no URLs; send the image itself, base64-encoded")
    if value.startswith("data:"):  # from a browser's canvas
        value = value[value.find(",", 0, 200) + 1 :]
    try:
        return b"".join(_decoded(value))
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            "bad-parameter", "an image is not valid base64: with + and /, padded with =, without line breaks"
        ) from error


def _decoded(value: str) -> Iterator[bytes]:
    """Decode in pieces of a multiple of 4 letters. Between them the event loop gets the interpreter's lock."""
    for at in range(0, len(value), _PIECE):
        piece = base64.b64decode(value[at : at + _PIECE], validate=True)
        if len(piece) < _PIECE // 4 * 3 and at + _PIECE < len(value):
            raise ValueError("padding in the middle")
        yield piece
