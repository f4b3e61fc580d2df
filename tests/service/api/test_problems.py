"""Every error is a problem document with the reason and what to do about it."""

from __future__ import annotations

import base64
import gzip
import struct
import zlib
from typing import Any

import httpx
import pytest

from tests.pictures import encoded, photo

JPEG = {"Content-Type": "image/jpeg"}


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{kind}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return document


def png_header(width: int, height: int) -> bytes:
    """Return a PNG with a size in its header and only a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 50_000))
        + chunk(b"IEND", b"")
    )


def test_a_truncated_jpeg_is_reported_as_truncated(client: httpx.Client, jpeg: bytes) -> None:
    document = problem(client.post("/pose", content=jpeg[: len(jpeg) // 2], headers=JPEG), 400, "undecodable-image")
    assert "truncated" in document["detail"]


def test_text_is_not_an_image(client: httpx.Client) -> None:
    document = problem(client.post("/pose", content=b"hello", headers=JPEG), 415, "not-an-image")
    assert "JPEG" in document["detail"]


def test_an_unknown_content_type_is_refused(client: httpx.Client, jpeg: bytes) -> None:
    problem(client.post("/pose", content=jpeg, headers={"Content-Type": "video/mp4"}), 415, "not-an-image")


def test_the_format_of_an_image_is_known_by_its_bytes_not_by_its_content_type(
    client: httpx.Client, jpeg: bytes
) -> None:
    assert client.post("/pose", content=jpeg, headers={"Content-Type": "image/jpg"}).status_code == 200
    document = problem(
        client.post("/pose", content=b"<svg>", headers={"Content-Type": "image/svg+xml"}), 415, "not-an-image"
    )
    assert "JPEG" in document["detail"]


def test_a_compressed_body_is_refused(client: httpx.Client, jpeg: bytes) -> None:
    compressed = {**JPEG, "Content-Encoding": "gzip"}
    document = problem(client.post("/pose", content=gzip.compress(jpeg), headers=compressed), 415, "not-an-image")
    assert "Content-Encoding gzip is not accepted" in document["detail"]
    assert client.post("/pose", content=jpeg, headers={**JPEG, "Content-Encoding": "identity"}).status_code == 200


def test_an_empty_body_is_reported_as_empty(client: httpx.Client) -> None:
    answer = client.post("/pose", content=b"", headers=JPEG)
    assert answer.status_code in (400, 415)
    assert "empty" in answer.json()["detail"]


def test_too_many_pixels_are_refused_by_the_header_alone(client: httpx.Client) -> None:
    document = problem(client.post("/pose", content=png_header(20_000, 20_000)), 413, "too-large")
    assert "20000" in document["detail"].replace(",", "").replace(" ", "")


def test_too_many_bytes_are_refused_before_they_are_sent(client: httpx.Client) -> None:
    problem(client.post("/pose", content=bytes(33_000_000), headers=JPEG), 413, "too-large")


def test_too_many_bytes_without_a_declared_length_are_refused(client: httpx.Client) -> None:
    problem(client.post("/pose", content=(bytes(1_000_000) for _ in range(40)), headers=JPEG), 413, "too-large")


def test_an_unknown_model_is_reported_with_the_served_ones(client: httpx.Client, jpeg: bytes) -> None:
    document = problem(client.post("/pose?model=nobody", content=jpeg, headers=JPEG), 404, "unknown-model")
    assert "tiny" in document["detail"]


def test_an_unknown_skeleton_is_reported_with_the_known_ones(client: httpx.Client, jpeg: bytes) -> None:
    document = problem(client.post("/pose?skeleton=octopus", content=jpeg, headers=JPEG), 404, "unknown-skeleton")
    assert "'octopus' is not one of native, coco-17, " in document["detail"]
    document = problem(client.post("/pose?skeleton=hand-21", content=jpeg, headers=JPEG), 404, "unknown-skeleton")
    assert document["detail"] == "skeleton: no keypoint of hand-21 is one of coco-17"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("min_score=2", "min_score"),
        ("max_people=0", "max_people"),
        ("format=xml", "format"),
        ("timeout_ms=soon", "timeout_ms"),
        ("priority=live", "priority"),
        ("colour=red", "colour"),
    ],
)
def test_a_wrong_parameter_is_named(client: httpx.Client, jpeg: bytes, query: str, names: str) -> None:
    assert names in problem(client.post(f"/pose?{query}", content=jpeg, headers=JPEG), 422, "bad-parameter")["detail"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        (b"{", 400, "bad-request", "not JSON"),
        (b"[]", 422, "bad-parameter", '{"image": BASE64}'),
        (b'{"image": 7}', 422, "bad-parameter", "base64 string"),
        (b'{"image": "%%%"}', 422, "bad-parameter", "not valid base64"),
        (b'{"image": "https://example.com/a.jpg"}', 422, "bad-parameter", "fetches no URLs"),
        (b'{"images": "abc"}', 422, "bad-parameter", "list"),
        (b'{"images": []}', 422, "bad-parameter", "no image"),
    ],
)
def test_bad_json_is_explained(client: httpx.Client, body: bytes, status: int, kind: str, says: str) -> None:
    answer = client.post("/pose", content=body, headers={"Content-Type": "application/json"})
    assert says in problem(answer, status, kind)["detail"]


def test_bad_multipart_is_explained(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    assert "boundary" in problem(client.post("/pose", content=b"abc", headers=headers), 400, "bad-request")["detail"]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(client.post("/pose", content=b"--y\r\nbroken", headers=headers), 400, "bad-request")
    problem(client.post("/pose", files={"picture": b"abc"}), 422, "bad-parameter")


def test_too_many_images_are_refused(client: httpx.Client) -> None:
    tiny = base64.b64encode(encoded(photo(8, 8))).decode()
    assert "at most 16" in problem(client.post("/pose", json={"images": [tiny] * 17}), 413, "too-large")["detail"]


def test_a_picture_of_several_images_is_refused(client: httpx.Client, jpeg: bytes) -> None:
    files = [("image", jpeg), ("image", jpeg)]
    problem(client.post("/pose", files=files, headers={"Accept": "image/png"}), 422, "bad-parameter")


def test_a_deadline_that_cannot_be_met_gives_503_or_504(client: httpx.Client) -> None:
    large = encoded(photo(4000, 3000))
    answer = client.post("/pose?timeout_ms=1", content=large, headers=JPEG)
    assert answer.status_code in (503, 504)
    problem(answer, answer.status_code, "overloaded" if answer.status_code == 503 else "deadline-passed")


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    problem(client.get("/nowhere"), 404, "not-found")
    answer = client.get("/pose")
    assert "POST" in problem(answer, 405, "method-not-allowed")["detail"]
    assert answer.headers["allow"] == "POST"
    assert client.put("/videos/1").headers["allow"] == "DELETE, GET", "of all routes of a path"


def test_get_on_every_problem_type_explains_it(client: httpx.Client) -> None:
    from service.api.problems import KINDS

    for kind in KINDS:
        assert KINDS[kind].help in client.get(f"/problems/{kind}").text
