"""The setting `crops`: the server answers the same wherever crops are cut out and keypoints read."""

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

JPEG = encoded(photo(640, 480))


def keypoints(catalogue: Path, crops: str) -> NDArray[np.float64]:
    """(people, 17, 3) that a server on torch finds behind its detector, by many requests at once."""
    with ServerProcess(
        "--model", "pair", catalogue=catalogue, environment={"backend": "torch", "crops": crops}
    ) as server:
        answer = httpx.post(f"{server.url}/pose?min_score=0", files=[("image", JPEG)] * 3, timeout=60)
        assert answer.status_code == 200, answer.text
        first, *others = (image["people"] for image in answer.json())
        assert all(other == first for other in others)
        return np.array([person["keypoints"] for person in first])


def test_people_are_the_same_wherever_crops_are_cut_out(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")
    catalogue = tiny_catalogue(tmp_path)
    here, there = keypoints(catalogue, "cpu"), keypoints(catalogue, "device")
    assert here.shape == (2, 17, 3)
    assert np.abs(there[..., :2] - here[..., :2]).max() < 0.25
    np.testing.assert_allclose(there[..., 2], here[..., 2], atol=1e-3)


def test_a_backend_without_a_device_says_so_at_once(tmp_path: Path) -> None:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("POSEWIRE_")}
    variables |= {"POSEWIRE_CATALOGUE": str(tiny_catalogue(tmp_path)), "POSEWIRE_CROPS": "device"}
    command = [sys.executable, "-m", "service", "serve", "--model", "tiny", "--port", "0", "--backend", "openvino"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "Error: crops are cut out on a device by backends torch and tensorrt, not openvino; say crops auto\n"
    )
