"""TensorRT plans of a real server: built while it serves, taken over when ready, reused, and not needed on failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[rtx]'")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")

from onnx import TensorProto, helper

from tests.engines.build.onnx_graphs import save_heatmap_onnx, save_onnx
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

CATALOGUE = """
[models.tiny]
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
source = { kind = "file", path = "net.onnx" }
input = { width = 48, height = 64, mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375] }
options = { output = "heatmaps" }
"""
JPEG = encoded(photo(96, 128))
_BUILDING_S = 120.0  # at the lowest priority, on a machine that may be busy


def server(graph: Path, *arguments: str) -> ServerProcess:
    """Return a server with the model of `graph`, and a cache beside it."""
    catalogue = graph.with_name("models.toml")
    catalogue.write_text(CATALOGUE, "utf-8")
    environment = {"test_graph": graph, "models": graph.parent / "cache", "log_format": "text"}
    return ServerProcess(
        "--model", "tiny", *arguments, catalogue=catalogue, environment=environment, module="tests.plan_server"
    )


def model(running: ServerProcess) -> Any:
    [found] = httpx.get(f"{running.url}/models").json()
    return found


def ask(running: ServerProcess) -> int:
    return httpx.post(f"{running.url}/pose", params={"min_score": 0}, content=JPEG, timeout=30).status_code


def test_the_graph_serves_until_its_plan_is_built_and_the_next_server_reuses_the_plan(tmp_path: Path) -> None:
    graph = save_heatmap_onnx(tmp_path / "net.onnx")
    with server(graph, "--backend", "tensorrt", "--precision", "fp32") as first:
        before = model(first)
        assert before["plans"]["tiny"]["state"] == "building"
        assert before["max_batch"] == {"tiny": 4}
        answers = []

        def ready() -> bool:
            answers.append(ask(first))
            return bool(model(first)["plans"]["tiny"]["state"] != "building")

        wait_for(ready, _BUILDING_S)
        built = model(first)
        assert built["plans"]["tiny"]["state"] == "ready", built["plans"]
        answers += [ask(first) for _ in range(5)]
        assert set(answers) == {200}, "the switch fails no request"
        assert built["max_batch"] == {"tiny": 2}, "the runtime of the plan has taken over"
        log = "\n".join(first.log)
        assert "the plan of tiny is being built" in log
        assert "the plan of tiny serves from now on" in log
    made = built["plans"]["tiny"]
    assert (made["asked"], made["precision"], made["share"]) == ("fp32", "fp32", 1.0)

    with server(graph, "--backend", "auto", "--precision", "fp32") as second:
        assert model(second)["plans"]["tiny"] == made, "the same plan, without building"
        assert ask(second) == 200
        assert "being built" not in "\n".join(second.log)


def test_the_server_works_without_a_plan_that_cannot_be_built(tmp_path: Path) -> None:
    def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)

    shifted = [
        node("Cast", "image", "bytes", to=TensorProto.UINT8),
        node("BitShift", "bytes one", "shifted", direction="LEFT"),
        node("Cast", "shifted", "floats", to=TensorProto.FLOAT),
        node("Conv", "floats w", "heatmaps", strides=[4, 4]),
    ]
    weights: dict[str, np.ndarray] = {
        "one": np.array([1], np.uint8),
        "w": np.random.default_rng(1).normal(size=(17, 3, 4, 4)).astype(np.float32),
    }
    graph = save_onnx(tmp_path / "net.onnx", shifted, weights, "image: n, 3, 64, 48", "heatmaps: n, 17, 16, 12")
    with server(graph, "--backend", "tensorrt", "--precision", "fp32") as running:
        wait_for(lambda: model(running)["plans"]["tiny"]["state"] != "building", _BUILDING_S)
        plan = model(running)["plans"]["tiny"]
        assert plan["state"] == "failed"
        assert "cannot take node bytes (Cast)" in plan["detail"]
        assert ask(running) == 200


def test_a_server_that_is_building_a_plan_ends_at_once(tmp_path: Path) -> None:
    graph = save_heatmap_onnx(tmp_path / "net.onnx")
    with server(graph, "--backend", "tensorrt") as running:
        assert model(running)["plans"]["tiny"]["state"] == "building"
    assert running.process.returncode is not None
    assert not list((tmp_path / "cache/plans").glob("*.plan"))
