"""The setting `crops`: results are the same whether crops are made and keypoints read on the host or on a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess

pytestmark = pytest.mark.slow

JPEG = encoded(photo(640, 480))


def keypoints(catalogue: Path, crops: str) -> NDArray[np.float64]:
    """Return the people that a server with a detector on ONNX Runtime finds in a batch of images, (people, 17, 3)."""
    with ServerProcess(
        "--model", "pair", catalogue=catalogue, environment={"backend": "onnxruntime", "crops": crops}
    ) as server:
        answer = httpx.post(f"{server.url}/pose?min_score=0", files=[("image", JPEG)] * 3, timeout=60)
        assert answer.status_code == 200, answer.text
        first, *others = (image["people"] for image in answer.json())
        assert all(other == first for other in others)
        return np.array([person["keypoints"] for person in first])


def test_host_and_device_crops_give_the_same_people(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")
    from tests.engines.build.onnx_graphs import tiny_onnx_catalogue

    catalogue = tiny_onnx_catalogue(tmp_path)
    on_host, on_device = keypoints(catalogue, "cpu"), keypoints(catalogue, "device")
    assert on_host.shape == (2, 17, 3)
    assert np.abs(on_device[..., :2] - on_host[..., :2]).max() < 0.25
    np.testing.assert_allclose(on_device[..., 2], on_host[..., 2], atol=1e-3)


def test_device_crops_on_a_backend_without_a_device_are_an_error_at_the_start(tmp_path: Path) -> None:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("POSEWIRE_")}
    variables |= {"POSEWIRE_CATALOGUE": str(tiny_catalogue(tmp_path)), "POSEWIRE_CROPS": "device"}
    command = [sys.executable, "-m", "service", "serve", "--model", "tiny", "--port", "0", "--backend", "openvino"]
    done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "Error: crops are cut out on a device by backends onnxruntime and tensorrt, not openvino; say crops auto\n"
    )
