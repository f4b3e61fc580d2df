"""Models with keypoints of hands, whole bodies and a user's tool, served by a real server and drawn in a real video."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.media.video_reader import VideoReader
from tests.keypoint_models import HEIGHT, MODELS, SCORE, WIDTH, keypoint_models, points
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.service.media.videos import make_video
from tests.streaming import refusal, stream

PICTURE = encoded(photo(WIDTH, HEIGHT), "PNG")
JPEG = encoded(photo(WIDTH, HEIGHT), quality=90)
NEAR = 0.7
"""Pixels: crops are aligned to whole pixels of the image where that moves them little."""
SKELETONS = {"hand": "hand-21", "whole": "coco-wholebody-133", "tool": "screwdriver"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keypoint_models(tmp_path_factory.mktemp("keypoints"))


@pytest.fixture(scope="module")
def serving(own: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", ",".join(MODELS), catalogue=own) as running:
        yield running


def pose(server: ServerProcess, query: str, accept: str = "application/json") -> httpx.Response:
    return httpx.post(f"{server.url}/pose?{query}", content=PICTURE, headers={"accept": accept}, timeout=30)


def person(server: ServerProcess, query: str) -> dict[str, Any]:
    answer = pose(server, query)
    assert answer.status_code == 200, answer.text
    [found] = answer.json()["people"]
    assert isinstance(found, dict)
    return found


def placed(keypoints: list[list[float]]) -> NDArray[np.float64]:
    return np.array(keypoints)[:, :2]


@pytest.mark.parametrize("name", MODELS)
def test_an_image_has_the_keypoints_of_its_model(serving: ServerProcess, name: str) -> None:
    found = person(serving, f"model={name}")["keypoints"]
    np.testing.assert_allclose(placed(found), points(name), atol=NEAR)
    assert {score for _, _, score in found} == {SCORE}


def test_skeletons_are_listed_with_the_users(serving: ServerProcess) -> None:
    models = {model["name"]: model["skeleton"] for model in httpx.get(f"{serving.url}/models").json()}
    assert models == SKELETONS
    skeletons = {one["name"]: one for one in httpx.get(f"{serving.url}/skeletons").json()}
    assert skeletons["screwdriver"] == {
        "name": "screwdriver",
        "keypoints": list(MODELS["tool"]),
        "limbs": [["tip", "shaft"], ["shaft", "collar"], ["collar", "grip"], ["grip", "cap"]],
        "pairs": [],
        "sigmas": [0.07] * 5,
    }
    assert ["left_thumb1", "right_thumb1"] in skeletons["coco-wholebody-133"]["pairs"]


def test_keypoints_are_converted_where_they_can_be(serving: ServerProcess) -> None:
    body = person(serving, "model=whole&skeleton=coco-17")["keypoints"]
    np.testing.assert_allclose(placed(body), points("whole")[:17], atol=NEAR)
    hands = person(serving, "model=whole&skeleton=hands-42")["keypoints"]
    np.testing.assert_allclose(placed(hands), points("whole")[91:], atol=NEAR)

    mapped = person(serving, "model=tool&skeleton=coco-17")["keypoints"]
    tool = points("tool")
    np.testing.assert_allclose(mapped[9][:2], tool[4], atol=NEAR)  # the left wrist is the cap
    np.testing.assert_allclose(mapped[0][:2], tool[:2].mean(axis=0), atol=NEAR)
    assert sum(score > 0 for _, _, score in mapped) == 2

    refused = pose(serving, "model=hand&skeleton=coco-17")
    assert (refused.status_code, refused.json()["type"]) == (404, "/problems/unknown-skeleton")


def test_openpose_has_the_body_the_face_and_the_hands(serving: ServerProcess) -> None:
    found = person(serving, "model=whole&format=openpose")
    whole = points("whole")
    face = np.array(found["face_keypoints_2d"]).reshape(70, 3)
    np.testing.assert_allclose(face[:68, :2], whole[23:91], atol=NEAR)
    assert not face[68:].any()
    for side, first in (("left", 91), ("right", 112)):
        hand = np.array(found[f"hand_{side}_keypoints_2d"]).reshape(21, 3)
        np.testing.assert_allclose(hand[:, :2], whole[first : first + 21], atol=NEAR)
    assert len(found["pose_keypoints_2d"]) == 75

    refused = pose(serving, "model=hand&format=openpose")
    assert (refused.status_code, refused.json()["detail"]) == (422, "format: openpose has no keypoint of hand-21")


def test_coco_results_have_cocos_keypoints_or_the_models_own(serving: ServerProcess) -> None:
    [whole] = pose(serving, "model=whole&format=coco").json()
    parts = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    joined = np.concatenate([np.array(whole[part]).reshape(-1, 3) for part in parts])
    np.testing.assert_allclose(joined[:, :2], points("whole"), atol=NEAR)
    for name in ("hand", "tool"):
        [found] = pose(serving, f"model={name}&format=coco").json()
        np.testing.assert_allclose(np.array(found["keypoints"]).reshape(-1, 3)[:, :2], points(name), atol=NEAR)
        assert "foot_kpts" not in found


@pytest.mark.parametrize("name", MODELS)
def test_they_are_drawn(serving: ServerProcess, name: str) -> None:
    answer = pose(serving, f"model={name}", "image/png")
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)), int)
    changed = np.abs(drawn - np.asarray(Image.open(io.BytesIO(PICTURE)), int)).max(axis=2) > 30
    inside = points(name)[(points(name) > 1).all(axis=1) & (points(name) < (WIDTH - 2, HEIGHT - 2)).all(axis=1)]
    assert np.mean([changed[round(y), round(x)] for x, y in inside.tolist()]) > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_tracks_and_smooths_them_and_is_resumed(serving: ServerProcess, name: str) -> None:
    async def frames(**hello: Any) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        async with stream(serving.port, model=name, smoothing=True, **hello) as opened:
            return opened.welcome, [await opened.ask(JPEG) for _ in range(3)]

    welcome, results = asyncio.run(frames())
    assert (welcome["skeleton"], welcome["keypoints"]) == (SKELETONS[name], list(MODELS[name]))
    for result in results:
        [found] = result["people"]
        assert found["id"] == 1
        np.testing.assert_allclose(placed(found["keypoints"]), points(name), atol=NEAR)

    again, results = asyncio.run(frames(resume=results[-1]["token"]))
    assert again["resumed"], again
    assert results[0]["people"][0]["id"] == 1


def test_a_stream_converts_and_refuses_what_it_cannot_convert(serving: ServerProcess) -> None:
    async def scenario() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        async with stream(serving.port, model="tool", skeleton="coco-17") as opened:
            return opened.welcome, await opened.ask(JPEG)

    welcome, result = asyncio.run(scenario())
    assert (welcome["skeleton"], len(welcome["keypoints"])) == ("coco-17", 17)
    np.testing.assert_allclose(result["people"][0]["keypoints"][9][:2], points("tool")[4], atol=NEAR)
    hello = json.dumps({"model": "hand", "skeleton": "coco-17"})
    assert asyncio.run(refusal(serving.port, hello)) == (4422, "skeleton: no keypoint of coco-17 is one of hand-21")


@pytest.mark.parametrize("name", MODELS)
def test_a_video_is_tracked_and_drawn(own: Path, tmp_path: Path, name: str) -> None:
    source, out, poses = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "poses.json"
    make_video(source, 6)
    command = [sys.executable, "-m", "service", "video", str(source), "--out", str(out), "--poses", str(poses)]
    variables = {**os.environ, "POSEWIRE_CATALOGUE": str(own)}
    done = subprocess.run(
        [*command, "--model", name, "--trails", "1"], env=variables, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr

    document = json.loads(poses.read_text("utf-8"))
    assert (document["skeleton"], document["keypoints"]) == (SKELETONS[name], list(MODELS[name]))
    assert [[one["id"] for one in frame["people"]] for frame in document["frames"]] == [[1]] * 6
    with VideoReader(source) as before, VideoReader(out) as after:
        pairs = list(zip(before, after, strict=True))
    assert all(np.abs(b.pixels.astype(int) - a.pixels).max() > 60 for b, a in pairs)


def test_a_graph_with_other_keypoints_than_its_skeleton_is_refused(own: Path, tmp_path: Path) -> None:
    wrong = own.with_name("wrong.toml")
    wrong.write_text(own.read_text("utf-8").replace('skeleton = "hand-21"', 'skeleton = "coco-17"'), "utf-8")
    picture = tmp_path / "a.png"
    picture.write_bytes(PICTURE)
    done = subprocess.run(
        [sys.executable, "-m", "service", "image", str(picture), "--model", "hand"],
        env={**os.environ, "POSEWIRE_CATALOGUE": str(wrong)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == (
        "Error: hand: its graph gives 21 keypoints, and skeleton coco-17 has 17; "
        "name a skeleton that fits, or define it as [skeletons.NAME]"
    )
