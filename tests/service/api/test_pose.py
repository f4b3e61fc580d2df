"""POST /pose: every way to send an image, and every format of the response."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.pictures import encoded, photo

JPEG = {"Content-Type": "image/jpeg"}


def test_a_jpeg_gives_the_poses_of_all_people(client: httpx.Client, jpeg: bytes) -> None:
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


def test_multipart_json_and_raw_bodies_give_the_same_result(client: httpx.Client, jpeg: bytes) -> None:
    raw = client.post("/pose?min_score=0", content=jpeg, headers=JPEG).json()
    multipart = client.post("/pose?min_score=0", files={"image": ("a.jpg", jpeg, "image/jpeg")}).json()
    text = base64.b64encode(jpeg).decode()
    in_json = client.post("/pose?min_score=0", json={"image": text}).json()
    data_url = client.post("/pose?min_score=0", json={"image": f"data:image/jpeg;base64,{text}"}).json()
    assert raw["people"] == multipart["people"] == in_json["people"] == data_url["people"]


def test_a_body_with_the_content_type_of_curl_is_recognised_by_its_bytes(client: httpx.Client, jpeg: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/pose", content=jpeg, headers=headers).status_code == 200
    assert client.post("/pose", content=b"image=3", headers=headers).status_code == 415


def test_several_images_give_a_list_in_order_and_a_broken_one_gives_an_error_entry(
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
def test_accept_with_an_image_type_gives_the_picture_with_skeletons(
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


def test_a_request_id_is_returned_or_generated(client: httpx.Client, jpeg: bytes) -> None:
    assert client.post("/pose", content=jpeg, headers={"X-Request-ID": "mine-7"}).headers["x-request-id"] == "mine-7"
    made = {client.post("/pose", content=jpeg).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert client.post("/pose", content=jpeg, headers={"X-Request-ID": "x" * 500}).headers["x-request-id"] != "x" * 500


def test_pictures_are_drawn_as_the_parameters_say(client: httpx.Client, jpeg: bytes) -> None:
    def picture(query: str, accept: str = "image/png") -> Image.Image:
        response = client.post(f"/pose?min_score=0&{query}", content=jpeg, headers={"Accept": accept})
        assert response.status_code == 200, response.text
        return Image.open(io.BytesIO(response.content))

    plain = np.asarray(picture(""))
    for query in ("boxes=true", "ids=1", "labels=true", "blur=faces", "background=black"):
        assert (np.asarray(picture(query)) != plain).any(), query
    assert picture("background=none").mode == "RGBA"
    black = np.asarray(picture("background=black&boxes=true"))
    assert (black.max(axis=2) == 0).mean() > 0.5


@pytest.mark.parametrize(
    ("query", "accept", "said"),
    [
        ("background=none", "image/jpeg", "only a PNG can be transparent; send Accept: image/png"),
        ("background=blue", "image/png", "background"),
        ("blur=bodies", "image/png", "blur"),
        ("labels=perhaps", "image/png", "labels"),
    ],
)
def test_parameters_of_pictures_that_make_no_sense_are_refused(
    client: httpx.Client, jpeg: bytes, query: str, accept: str, said: str
) -> None:
    response = client.post(f"/pose?{query}", content=jpeg, headers={"Accept": accept})
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/bad-parameter"
    assert said in response.json()["detail"]


def test_faces_are_blurred_also_of_people_who_are_left_out(client: httpx.Client, jpeg: bytes) -> None:
    headers = {"Accept": "image/png"}
    found = client.post("/pose?min_score=0.1", content=jpeg).json()["people"]
    drawn = client.post("/pose?min_score=1&blur=faces", content=jpeg, headers=headers)
    untouched = client.post("/pose?min_score=1", content=jpeg, headers=headers)
    if found:
        assert drawn.content != untouched.content
    else:
        assert drawn.content == untouched.content


def test_parameters_of_pictures_do_not_change_json(client: httpx.Client, jpeg: bytes) -> None:
    plain = client.post("/pose?max_people=1", content=jpeg).json()["people"]
    query = "max_people=1&boxes=true&ids=true&labels=true&blur=faces&background=none"
    assert client.post(f"/pose?{query}", content=jpeg).json()["people"] == plain
