"""A server with models that find the same person in every picture, and what a browser shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.browser.chromium import CAMERA
from tests.graphs import save_detector_graph
from tests.keypoint_models import HEIGHT, WIDTH, keypoint_models
from tests.pictures import encoded, photo
from tests.servers import ServerProcess

_PERSON = """
[models.one-detector]
role = "detector"
family = "rtmdet"
source = { kind = "file", path = "." }
files = [{ path = "one.xml" }, { path = "one.bin" }]
input = { width = 320, height = 320, order = "bgr", pad = 114 }

[models.person]
role = "estimator"
family = "simcc"
skeleton = "screwdriver"
detector = "one-detector"
source = { kind = "file", path = "." }
files = [{ path = "tool.xml" }, { path = "tool.bin" }]
input = { width = 192, height = 256 }
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models `tool` and `hand`, whose person fills the picture, and `person`, whose person does not."""
    folder = tmp_path_factory.mktemp("keypoints")
    catalogue = keypoint_models(folder)
    save_detector_graph(folder / "one.xml", [(40, 40, 200, 280, 0.9)])
    catalogue.write_text(catalogue.read_text("utf-8") + _PERSON, "utf-8")
    return catalogue


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "tool,hand,person", catalogue=models) as running:
        yield running


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of the models' own size, so that keypoints are where `points` says."""
    path = tmp_path_factory.mktemp("picture") / "a photo.jpg"
    path.write_bytes(encoded(photo(WIDTH, HEIGHT)))
    return path


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of VP8."""
    path = tmp_path_factory.mktemp("video") / "clip.webm"
    with av.open(path, "w") as container:
        stream = container.add_stream("libvpx", rate=15)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        pixels = np.asarray(photo(WIDTH, HEIGHT))
        for number in range(45):
            frame = av.VideoFrame.from_ndarray(np.roll(pixels, 3 * number, axis=1).copy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options of Chromium for a camera that shows a photo again and again."""
    path = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    path.write_bytes(encoded(photo(WIDTH, HEIGHT)) * 2)
    return (*CAMERA, f"--use-file-for-fake-video-capture={path}")
