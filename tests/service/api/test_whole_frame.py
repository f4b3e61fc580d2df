"""Every family of one-stage and bottom-up models, from its catalogue entry to the response."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from tests import drawn
from tests.drawn import Outputs
from tests.graphs import save_constant_graph, tiny_catalogue
from tests.people import standing
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.streaming import stream

FRAME = (640, 480)
PEOPLE = [standing(180, 230, 380), standing(460, 240, 360)]


class Kind(NamedTuple):
    """A family, the size of its input, and the outputs of its graph."""

    family: str
    role: str
    size: tuple[int, int]
    outputs: Outputs
    options: str = ""


def kinds() -> list[Kind]:
    """Return graphs whose input is a frame at half its size, and whose outputs are PEOPLE in it."""
    halves = [person * np.float32(0.5) for person in PEOPLE]
    upright = [person + np.array([0, 40], np.float32) for person in halves]  # the frame in the middle of a square input
    return [
        Kind("rtmo", "one-stage", (320, 256), drawn.rtmo(*halves)),
        Kind("movenet", "one-stage", (320, 256), drawn.movenet(320, 256, *halves)),
        Kind("yolo_pose", "one-stage", (320, 320), drawn.yolo_pose(*upright)),
        Kind("detections", "one-stage", (320, 240), drawn.keypoint_rcnn(*halves)),
        Kind("associative_embedding", "bottom-up", (320, 256), drawn.associative_embedding(320, 256, *halves)),
        Kind("part_affinity", "bottom-up", (320, 256), drawn.part_affinity(320, 256, *halves)),
        Kind(
            "personlab",
            "bottom-up",
            (321, 241),
            drawn.personlab(321, 241, *halves),
            'heatmaps = "heat", short_offsets = "short", mid_offsets = "mid"',
        ),
    ]


def entry(kind: Kind) -> str:
    """Return its catalogue entry."""
    width, height = kind.size
    return f"""
[models.{kind.family}]
role = "{kind.role}"
family = "{kind.family}"
skeleton = "coco-17"
source = {{ kind = "file", path = "." }}
files = [{{ path = "{kind.family}.xml" }}, {{ path = "{kind.family}.bin" }}]
input = {{ width = {width}, height = {height} }}
options = {{ {kind.options} }}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("whole")
    for kind in kinds():
        save_constant_graph(folder / f"{kind.family}.xml", kind.outputs, *kind.size)
    catalogue = tiny_catalogue(folder)
    catalogue.write_text(catalogue.read_text("utf-8") + "".join(entry(kind) for kind in kinds()), "utf-8")
    names = ",".join(["tiny", *(kind.family for kind in kinds())])
    with (
        ServerProcess("--model", names, catalogue=catalogue) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize("family", [kind.family for kind in kinds()])
def test_people_are_where_the_network_puts_them(served: httpx.Client, family: str) -> None:
    answer = served.post(f"/pose?model={family}", content=encoded(photo(*FRAME)))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == family
    people = sorted(body["people"], key=lambda person: float(person["keypoints"][0][0]))
    assert len(people) == 2
    for person, drawing in zip(people, PEOPLE, strict=True):
        points = np.array(person["keypoints"])
        assert np.linalg.norm(points[:, :2] - drawing, axis=1).max() < 8
        x1, y1, x2, y2 = person["box"]
        assert (points[:, :2] > (x1, y1)).all()
        assert (points[:, :2] < (x2, y2)).all()
        assert 0.5 < person["score"] <= 1


def test_several_images_and_limits(served: httpx.Client) -> None:
    image = encoded(photo(*FRAME))
    files = [("image", (f"{n}.jpg", image, "image/jpeg")) for n in range(3)]
    answers = served.post("/pose?model=rtmo&max_people=1", files=files).json()
    assert [len(answer["people"]) for answer in answers] == [1, 1, 1]
    assert served.post("/pose?model=rtmo&min_score=0.95", content=image).json()["people"] == []


def test_a_large_image_is_decoded_no_larger_than_the_network_needs(served: httpx.Client) -> None:
    large = encoded(photo(*FRAME).resize((2560, 1920)))
    body = served.post("/pose?model=rtmo", content=large).json()
    assert (body["width"], body["height"]) == (2560, 1920)
    noses = sorted(person["keypoints"][0][:2] for person in body["people"])
    np.testing.assert_allclose(noses, [4 * person[0] for person in PEOPLE], atol=4)


def test_a_one_stage_model_is_listed_without_a_detector(served: httpx.Client) -> None:
    models = {model["name"]: model for model in served.get("/models").json()}
    assert models["rtmo"]["detector"] is None
    assert list(models["rtmo"]["queue"]) == ["rtmo"]


def test_a_stream_keeps_the_identities_of_all_people(served: httpx.Client) -> None:
    async def scenario() -> list[list[int]]:
        async with stream(served.base_url.port or 0, model="personlab", detect_every=500) as opened:
            results = [await opened.ask(encoded(photo(*FRAME))) for _ in range(3)]
            return [[person["id"] for person in result["people"]] for result in results]

    assert asyncio.run(scenario()) == [[1, 2]] * 3
