"""`posewire models check` as a user runs it: the entry of a graph of one's own, which the next command serves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result

from engines.catalogue.tfjs import convert
from service.cli.main import main

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[onnxruntime]'")

from onnx import helper

from tests import drawn
from tests.engines.build.onnx_graphs import (
    save_constant_onnx,
    save_heatmap_onnx,
    save_onnx,
    save_sized_onnx,
)
from tests.graphs import save_detector_graph, save_keypoint_graph
from tests.people import standing
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.tfjs import FLOAT, constant, node, placeholder, save_graph_model

PERSON = standing(100, 120, 160)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`posewire models check` as a process in `folder`, on a machine without any detector."""
    variables = {k: v for k, v in os.environ.items() if k != "POSEWIRE_CATALOGUE"}
    variables["POSEWIRE_MODELS"] = str(folder / "cache")
    check = [sys.executable, "-m", "service", "models", "check", *arguments]
    return subprocess.run(check, cwd=folder, env=variables, capture_output=True, encoding="utf-8", check=False)


def check(folder: Path, *arguments: str, catalogue: Path | None = None) -> Result:
    """The same in this process."""
    variables = {"POSEWIRE_MODELS": str(folder / "cache"), "POSEWIRE_CATALOGUE": str(catalogue or "")}
    with contextlib.chdir(folder):
        return CliRunner(env=variables).invoke(main, ["models", "check", *arguments])


def simcc(width: int, height: int, keypoints: int = 17, bins_z: int = 0) -> dict[str, np.ndarray]:
    """The outputs for PERSON, whose keypoints repeat if there are more than 17."""
    x, y = (np.zeros((1, keypoints, 2 * side), np.float32) for side in (width, height))
    for k in range(keypoints):
        x[0, k, round(2 * float(PERSON[k % 17, 0]))] = y[0, k, round(2 * float(PERSON[k % 17, 1]))] = 0.9
    return {"simcc_x": x, "simcc_y": y} | ({"depth": np.ones((1, keypoints, bins_z), np.float32)} if bins_z else {})


def heatmaps(width: int, height: int) -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[: height // 4, : width // 4] * 4
    maps = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 128) for x, y in PERSON]
    return {"maps": np.array([maps], np.float32)}


class Case(NamedTuple):
    """A graph of one's own, its family, and the options that its entry must have."""

    save: Callable[[Path], Path]
    family: str
    options: Mapping[str, Any] = MappingProxyType({})


CASES = {
    "simcc": Case(lambda path: save_constant_onnx(path, simcc(192, 256), 192, 256), "simcc"),
    "heatmap": Case(lambda path: save_constant_onnx(path, heatmaps(192, 256), 192, 256), "heatmap"),
    "yolo_pose": Case(
        lambda path: save_constant_onnx(path, drawn.yolo_pose(PERSON, layout="end-to-end"), 192, 256),
        *("yolo_pose", {"layout": "end-to-end"}),
    ),
    "rtmo": Case(lambda path: save_constant_onnx(path, drawn.rtmo(PERSON), 192, 256), "rtmo"),
    "detrpose": Case(lambda path: save_sized_onnx(path, np.tile(PERSON / (192, 256), (5, 1, 1))), "detrpose"),
}


@pytest.mark.parametrize("name", CASES)
def test_two_commands_serve_a_model_of_ones_own(tmp_path: Path, name: str) -> None:
    CASES[name].save(tmp_path / "my.onnx")
    checked = command(tmp_path, "my.onnx")
    assert checked.returncode == 0, checked.stderr
    assert f"it fits family {CASES[name].family} " in checked.stderr
    assert "with skeleton coco-17" in checked.stderr
    assert "it ran on a drawn picture" in checked.stderr
    (tmp_path / "my.toml").write_text(checked.stdout, "utf-8")
    entry = tomllib.loads(checked.stdout)["models"]["my"]
    assert entry["family"] == CASES[name].family
    assert entry.get("options", {}) == CASES[name].options

    with ServerProcess("--model", "my", catalogue=tmp_path / "my.toml") as server:
        answer = httpx.post(f"{server.url}/pose", content=encoded(photo(192, 256)), timeout=30).json()
    assert answer["skeleton"] == "coco-17"
    person = max(answer["people"], key=lambda one: one["score"])
    assert person["score"] == pytest.approx(0.9, abs=0.15)
    points = np.array(person["keypoints"])[:, :2]
    if entry["role"] == "estimator":  # whose crop is larger than the frame
        drawn_points = (PERSON - (96, 128)) * 1.25 + (96, 128)
        np.testing.assert_allclose(points, drawn_points, atol=3)
    else:
        np.testing.assert_allclose(points, PERSON, atol=2)


def test_a_detector_is_tried_and_written_as_one(tmp_path: Path) -> None:
    save_detector_graph(tmp_path / "finder.xml", [(40, 40, 120, 220, 0.9), (180, 60, 260, 230, 0.8)])
    (tmp_path / "photo.png").write_bytes(encoded(photo(320, 320), "PNG"))
    checked = check(tmp_path, "finder.xml", "--image", "photo.png", "--output", "finder.toml")
    assert checked.exit_code == 0, checked.stderr
    assert checked.stdout == ""
    assert "it fits family rtmdet (detector)" in checked.stderr
    assert "it ran on photo.png in " in checked.stderr
    assert "2 found (scores 0.90, 0.80)" in checked.stderr
    entry = tomllib.loads((tmp_path / "finder.toml").read_text("utf-8"))["models"]["finder"]
    assert (entry["role"], entry["family"], "skeleton" in entry) == ("detector", "rtmdet", False)
    assert [file["path"] for file in entry["files"]] == ["finder.xml", "finder.bin"]


def test_a_detector_can_be_named_and_a_third_axis_gives_3d(tmp_path: Path) -> None:
    save_constant_onnx(tmp_path / "whole body.onnx", simcc(192, 256, bins_z=576), 192, 256)
    save_detector_graph(tmp_path / "pair.xml", [(40, 40, 120, 220, 0.9), (180, 60, 260, 230, 0.8)])
    assert check(tmp_path, "pair.xml", "--output", "pair.toml").exit_code == 0
    checked = check(tmp_path, "whole body.onnx", "--detector", "pair", catalogue=tmp_path / "pair.toml")
    assert checked.exit_code == 0, checked.stderr
    assert "it fits family simcc_3d (estimator) with skeleton coco-17" in checked.stderr
    assert "2 found" in checked.stderr
    entry = tomllib.loads(checked.stdout)["models"]["whole-body"]
    assert entry["detector"] == "pair"


def test_a_whole_body_has_its_skeleton_and_a_tool_of_five_points_begins_one(tmp_path: Path) -> None:
    save_constant_onnx(tmp_path / "body.onnx", simcc(192, 256, keypoints=133), 192, 256)
    body = check(tmp_path, "body.onnx")
    assert "with skeleton coco-wholebody-133" in body.stderr
    save_constant_onnx(tmp_path / "tool.onnx", simcc(192, 256, keypoints=5), 192, 256)
    tool = check(tmp_path, "tool.onnx")
    assert tool.exit_code == 0, tool.stderr
    assert "no skeleton has 5 keypoints: [skeletons.tool-5] begins one" in tool.stderr
    assert "1 found" in tool.stderr
    written = tomllib.loads(tool.stdout)
    assert written["models"]["tool"]["skeleton"] == "tool-5"
    assert written["skeletons"]["tool-5"]["keypoints"] == [f"point-{n}" for n in range(5)]


def test_tensorflows_graphs_are_read_and_the_tfjs_model_is_served_with_its_weights(tmp_path: Path) -> None:
    save_single_pose_tfjs(tmp_path)
    tfjs = check(tmp_path, "model.json", "--name", "single")
    (tmp_path / "frozen.pb").write_bytes(convert(tmp_path / "model.json"))
    frozen = check(tmp_path, "frozen.pb")
    for checked in (tfjs, frozen):
        assert checked.exit_code == 0, checked.stderr
        assert "it fits family movenet (estimator) with skeleton coco-17" in checked.stderr
        assert "1 found (scores 0.9" in checked.stderr
    entry = tomllib.loads(tfjs.stdout)["models"]["single"]
    assert [file["path"] for file in entry["files"]] == ["model.json", "group1-shard1of2.bin", "group1-shard2of2.bin"]
    assert tomllib.loads(frozen.stdout)["models"]["frozen"]["source"]["path"] == str(tmp_path / "frozen.pb")


def save_single_pose_tfjs(folder: Path) -> None:
    """MoveNet's signature for one person: PERSON, as y, x, score in 0..1, whatever the image shows."""
    rows = np.column_stack([PERSON[:, ::-1] / 192, np.full(17, 0.9)])
    weights = {
        "axes": np.array([1, 2, 3], np.int32),
        "zero": np.array(0, np.float32),
        "rows": rows.reshape(1, 1, 17, 3).astype(np.float32),
    }
    kept = {"Tidx": {"type": "DT_INT32"}, "keep_dims": {"b": True}}
    nodes = [
        placeholder("input", "DT_INT32", 1, 192, 192, 3),
        *(constant(name, weights) for name in weights),
        node("cast", "Cast", ["input"], SrcT={"type": "DT_INT32"}, DstT={"type": "DT_FLOAT"}, Truncate={"b": False}),
        node("sum", "Sum", ["cast", "axes"], **FLOAT, **kept),
        node("nothing", "Mul", ["sum", "zero"], **FLOAT),
        node("Identity", "AddV2", ["nothing", "rows"], **FLOAT),
    ]
    save_graph_model(folder, nodes, weights, shards=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("notes.json",), "notes.json cannot be converted: notes.json is no tfjs GraphModel"),
        (("notes.onnx",), "notes.onnx is not a graph, or is damaged; graphs are .onnx,"),
        (("weights.pth",), "weights.pth is not a graph; graphs are .onnx,"),
        (("cut.onnx",), "cut.onnx "),
        (("alone.xml",), "alone.xml cannot be read: it is damaged, or"),
        (("free.onnx",), "takes images of any size (image (any, 3, any, any)); say which with --size HEIGHTxWIDTH"),
        (
            ("tiny.onnx", "--size", "300x200"),
            "cannot take images of 300 x 200 (height x width); its input is 256 x 192",
        ),
        (("text.onnx",), "text.onnx takes ids (any, 77); models take one image (n, 3, height, width)"),
        (("two.onnx",), "two.onnx takes left (any, 3, 4, 4), right (any, 3, 4, 4); models take one image"),
        (("classes.onnx",), "gives classes (any, 1000) for 64 x 48 pixels, which fits no family. They take:"),
        (("tiny.onnx", "--family", "simcc"), "; family simcc takes (n, K, split x width) and (n, K, split x height)"),
        (
            ("tiny.onnx", "--family", "psychic"),
            "family 'psychic' is not one whose graphs can be checked; those are rtmo,",
        ),
        (("tiny.onnx", "--skeleton", "halpe-26"), "skeleton halpe-26 has 26 keypoints, the graph gives 17; those"),
        (
            ("tiny.onnx", "--skeleton", "octopus"),
            "there is no skeleton 'octopus'; the graph gives 17 keypoints, and those",
        ),
        (("tiny.onnx", "--detector", "rtmo-s"), "rtmo-s is a one-stage, no detector"),
        (("tiny.onnx", "--detector", "nobody"), "no model is called 'nobody'"),
        (("tiny.onnx", "--image", "notes.onnx"), "notes.onnx: "),
        (("missing.onnx",), "'missing.onnx' does not exist"),
    ],
)
def test_what_cannot_be_checked_is_explained_in_one_message(
    graphs: Path, arguments: tuple[str, ...], message: str
) -> None:
    checked = check(graphs, *arguments)
    assert checked.exit_code in (1, 2)
    assert message in checked.stderr
    assert isinstance(checked.exception, SystemExit), "a traceback"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph that can be checked, and others that cannot."""
    folder = tmp_path_factory.mktemp("graphs")
    save_constant_onnx(folder / "tiny.onnx", heatmaps(192, 256), 192, 256)
    (folder / "cut.onnx").write_bytes((folder / "tiny.onnx").read_bytes()[:5000])
    (folder / "notes.onnx").write_text("not a graph", "utf-8")
    (folder / "notes.json").write_text("{}", "utf-8")
    (folder / "weights.pth").write_bytes(b"PK")
    save_keypoint_graph(folder / "alone.xml")
    (folder / "alone.bin").unlink()
    save_heatmap_onnx(folder / "free.onnx", sides="n, 3, h, w")
    save_onnx(folder / "text.onnx", [helper.make_node("Relu", ["ids"], ["out"])], {}, "ids: n, 77", "out: n, 77")
    both = [helper.make_node("Add", ["left", "right"], ["sum"])]
    save_onnx(folder / "two.onnx", both, {}, "left: n, 3, 4, 4; right: n, 3, 4, 4", "sum: n, 3, 4, 4")
    save_constant_onnx(folder / "classes.onnx", {"classes": np.zeros((1, 1000), np.float32)}, 48, 64)
    return folder
