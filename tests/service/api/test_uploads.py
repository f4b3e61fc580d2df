"""Hostile bodies of POST /pose, which are refused before they cost more to parse than to send, and large good ones."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import httpx
import pytest

JSON = {"Content-Type": "application/json"}
BOUNDARY = b"xxBOUNDARYxx"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
PART = b"\r\n--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


def form(content: bytes) -> bytes:
    return PART[2:] + content + b"\r\n--" + BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": [' + b"1," * 5_000_000 + b"1]}",
        b'{"images": [' + b'"",' * 2_000_000 + b'""]}',
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b'{"image": "' + b"a," * 5_000_000 + b'"}',
        b"," * 20_000_000,
    ],
    ids=["numbers", "strings", "nested lists", "nested objects", "commas in a string", "commas"],
)
def test_json_with_too_many_values_is_refused_without_parsing(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/pose", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "the JSON body has more than 1000 values"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"image": ', "the body is not JSON: line 1, column 11"),
        (b'{\n"image": "\xff"}', "the body is not JSON"),
        (b"\xff" * 1000, "the body is not JSON"),
        (b'{"image": "' + b"A" * 30_000_001 + b'"}', "not valid base64"),
        (b'{"image": "QUJD=QUJD"}', "not valid base64"),
        (b'{"image": "' + b"A" * 65_535 + b"=" + b"QUJD" * 20_000 + b'"}', "not valid base64"),
        (b'{"image": "' + "ä".encode() * 100 + b'"}', "not valid base64"),
        (b'{"images": 1}', "a list of base64 strings"),
        (b'{"images": [[], {}]}', "a base64 string, not list"),
    ],
)
def test_invalid_json_gets_a_short_reason(client: httpx.Client, body: bytes, detail: str) -> None:
    answer = client.post("/pose", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert detail in answer.json()["detail"]
    assert len(answer.content) < 1000


def test_large_images_in_json_are_decoded_unchanged(client: httpx.Client, jpeg: bytes) -> None:
    padded = jpeg + os.urandom(300_001)  # decoders ignore it
    text = base64.b64encode(padded).decode()
    for given in (text, f"data:image/jpeg;base64,{text}"):
        assert (
            client.post("/pose", json={"image": given}).status_code == client.post("/pose", content=padded).status_code
        )
    assert client.post("/pose?min_score=0", json={"images": [base64.b64encode(jpeg).decode()] * 3}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (PART[2:] * 300_000, 400),
        (form(b"\r\n" * 5_000_000), 415),
        (form((b"\r\n--" + BOUNDARY[:-1]) * 500_000), 415),
        (PART[2:-4] + b"\r\n" + b"X: y\r\n" * 1_000_000, 400),
        (PART[2:-4] + b"; x=" + b"y" * 10_000_000, 400),
        (b"--" + BOUNDARY, 400),
        (b"\0" * 10_000_000, 400),
        (b"", 400),
    ],
    ids=["parts", "line breaks", "near boundaries", "headers", "long header", "cut off", "preamble", "empty"],
)
def test_invalid_forms_are_refused(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/pose", content=body, headers=FORM)
    assert answer.status_code == status
    assert len(answer.content) < 1000


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300],
)
def test_a_form_needs_a_boundary(client: httpx.Client, jpeg: bytes, content_type: str) -> None:
    assert client.post("/pose", content=form(jpeg), headers={"Content-Type": content_type}).status_code == 400


def test_a_form_with_several_large_parts_is_read(client: httpx.Client, jpeg: bytes) -> None:
    files = [("image", jpeg), ("note", b"x" * 300_000), ("image", jpeg)]
    first, second = client.post("/pose?min_score=0", files=files).json()
    assert first["people"] == second["people"] == client.post("/pose?min_score=0", content=jpeg).json()["people"]


@pytest.mark.parametrize(
    "query", ["&".join(f"{n}=1" for n in range(40)), "&".join(f"a{n}" for n in range(20)), "model=" + "x" * 7_000]
)
def test_invalid_queries_get_a_short_reason(client: httpx.Client, query: str) -> None:
    answer = client.post(f"/pose?{query}", content=b"x")
    assert answer.status_code in (404, 422)
    assert len(answer.content) < 3_000


def test_a_body_without_a_length_is_limited_while_it_arrives(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1_000_000)

    try:
        status = client.post("/pose", content=pieces()).status_code
    except httpx.TransportError:
        status = 413  # the connection was closed while the client was sending
    assert status == 413


def test_the_name_of_a_file_need_not_be_utf8(client: httpx.Client, jpeg: bytes) -> None:
    for name in ("Müller.jpg".encode(), "Müller.jpg".encode("latin-1")):
        part = PART[2:].replace(b'filename="a"', b'filename="' + name + b'"')
        body = part + jpeg + b"\r\n--" + BOUNDARY + b"--\r\n"
        assert client.post("/pose", headers=FORM, content=body).status_code == 200
        job = client.post("/videos", headers=FORM, content=body.replace(b'name="image"', b'name="file"')).json()
        assert job["name"] == "Müller.jpg"
        assert client.delete(job["links"]["self"]).status_code == 204
