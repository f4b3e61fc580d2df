"""POST /pose as a client sees it: every way to send an image, every form of the answer."""

from __future__ import annotations

import base64
import io

import httpx
import pytest
from PIL import Image

from tests.pictures import encoded, photo

JPEG = {"Content-Type": "image/jpeg"}


def test_a_jpeg_in_and_everybodys_pose_out(client: httpx.Client, jpeg: bytes) -> None:
    answer = client.post("/pose?min_score=0", content=jpeg, headers=JPEG)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["width"], body["height"], body["model"], body["skeleton"]) == (640, 480, "tiny", "coco-17")
    [person] = body["people"]
    assert 0 <= person["score"] <= 1
    assert len(person["box"]) == 4
    assert len(person["keypoints"]) == 17
    assert all(len(point) == 3 for point in person["keypoints"])
    assert "keypoints_3d" not in person
    timing = body["timing_ms"]
    assert list(timing) == ["queue", "prepare", "infer", "decode", "serialise", "total"]
    assert 0 < sum(timing.values()) - timing["total"] <= timing["total"] + 1


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff"])
def test_every_format_gives_the_same_pose(client: httpx.Client, kind: str) -> None:
    picture = photo(192, 256)
    options = {"lossless": True} if kind == "webp" else {"quality": 95} if kind == "jpeg" else {}
    content = encoded(picture, kind.upper(), **options)
    reference = client.post("/pose?min_score=0", content=encoded(picture, "PNG")).json()["people"]
    answer = client.post("/pose?min_score=0", content=content, headers={"Content-Type": f"image/{kind}"})
    assert answer.status_code == 200
    if kind != "jpeg":
        assert answer.json()["people"] == reference


def test_multipart_json_and_raw_say_the_same(client: httpx.Client, jpeg: bytes) -> None:
    raw = client.post("/pose?min_score=0", content=jpeg, headers=JPEG).json()
    multipart = client.post("/pose?min_score=0", files={"image": ("a.jpg", jpeg, "image/jpeg")}).json()
    text = base64.b64encode(jpeg).decode()
    in_json = client.post("/pose?min_score=0", json={"image": text}).json()
    data_url = client.post("/pose?min_score=0", json={"image": f"data:image/jpeg;base64,{text}"}).json()
    assert raw["people"] == multipart["people"] == in_json["people"] == data_url["people"]


def test_what_curl_calls_a_body_of_unknown_kind_is_looked_at(client: httpx.Client, jpeg: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/pose", content=jpeg, headers=headers).status_code == 200
    assert client.post("/pose", content=b"image=3", headers=headers).status_code == 415


def test_several_images_give_a_list_in_order_and_a_broken_one_harms_only_itself(
    client: httpx.Client, jpeg: bytes
) -> None:
    small = encoded(photo(320, 200, seed=1))
    files = [("image", ("a.jpg", jpeg)), ("image", ("b.jpg", jpeg[:2000])), ("image", ("c.jpg", small))]
    first, second, third = client.post("/pose?min_score=0", files=files).json()
    assert (first["width"], third["width"]) == (640, 320)
    assert first["people"]
    assert third["people"]
    assert second["error"]["type"] == "/problems/undecodable-image"
    assert second["error"]["status"] == 400


def test_a_list_of_one_gives_a_list_of_one(client: httpx.Client, jpeg: bytes) -> None:
    assert len(client.post("/pose", json={"images": [base64.b64encode(jpeg).decode()]}).json()) == 1


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_who_accepts_a_picture_gets_it_with_the_skeletons_drawn(
    client: httpx.Client, jpeg: bytes, media_type: str
) -> None:
    answer = client.post("/pose?min_score=0", content=jpeg, headers={**JPEG, "Accept": media_type})
    assert answer.headers["content-type"] == media_type
    assert Image.open(io.BytesIO(answer.content)).size == (640, 480)


def test_scores_and_people_can_be_limited(client: httpx.Client, jpeg: bytes) -> None:
    assert client.post("/pose?min_score=1", content=jpeg, headers=JPEG).json()["people"] == []
    assert len(client.post("/pose?min_score=0&max_people=1", content=jpeg, headers=JPEG).json()["people"]) == 1


def test_coco_and_openpose_formats(client: httpx.Client, jpeg: bytes) -> None:
    [person] = client.post("/pose?format=coco&min_score=0", content=jpeg, headers=JPEG).json()
    assert len(person["keypoints"]) == 51
    openpose = client.post("/pose?format=openpose&min_score=0", content=jpeg, headers=JPEG).json()
    assert len(openpose["people"][0]["pose_keypoints_2d"]) == 75


def test_a_request_id_comes_back_or_is_made(client: httpx.Client, jpeg: bytes) -> None:
    assert client.post("/pose", content=jpeg, headers={"X-Request-ID": "mine-7"}).headers["x-request-id"] == "mine-7"
    made = {client.post("/pose", content=jpeg).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert client.post("/pose", content=jpeg, headers={"X-Request-ID": "x" * 500}).headers["x-request-id"] != "x" * 500
