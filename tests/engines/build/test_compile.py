"""Plans built with the real TensorRT-RTX: built once for all processes, found again, and used only where they fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[rtx]'")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")

import onnx
from onnx import helper

from engines.build.compile import build_plan
from engines.build.precision.convert import Precision
from engines.inputs import PixelInput, TensorSpec
from engines.locks import locked
from engines.plans.find import PlanBuildError, PlanOrder, find_plan
from engines.plans.flavour import TENSORRT_RTX, Flavour, find_flavour
from engines.plans.manifest import PlanFile, manifest_path
from tests.engines.build.onnx_graphs import save_heatmap_onnx, save_onnx
from tests.waiting import wait_for

PIXELS = PixelInput(64, 48, "bgr", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return find_flavour(None, [TENSORRT_RTX])


@pytest.fixture
def order(tmp_path: Path) -> PlanOrder:
    return PlanOrder(save_heatmap_onnx(tmp_path / "net.onnx"), "fp32", 4, PIXELS)


def test_a_manifest_describes_its_plan(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    shares: list[float] = []
    plan = build_plan(order, tmp_path / "plans", rtx, progress=lambda share, _: shares.append(share))
    manifest = plan.manifest
    assert manifest.batch_sizes == (1, 2, 4)
    assert manifest.inputs == (TensorSpec("image", (64, 48, 3), UINT8),)
    assert manifest.outputs == (TensorSpec("heatmaps", (17, 16, 12), FLOAT32), TensorSpec("means", (17,), FLOAT32))
    assert manifest.pixels == PIXELS
    assert (manifest.flavour, manifest.version, manifest.gpu) == (rtx.name, rtx.version, "sm80-and-later")
    assert manifest.asked == manifest.precision == "fp32"
    assert manifest.seconds > 0
    for part in ("net", manifest.onnx_sha256[:8], "fp32", "b4", rtx.version, "sm80-and-later", manifest.key):
        assert part in plan.path.name, "the name contains everything that invalidates the plan"
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert sorted(path.suffix for path in (tmp_path / "plans").iterdir()) == [".json", ".lock", ".plan"]
    assert plan.read()


def test_a_second_build_finds_the_first_plan(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    first = build_plan(order, tmp_path, rtx)
    written = first.path.stat().st_mtime_ns
    again = build_plan(order, tmp_path, rtx, progress=lambda *_: pytest.fail("it is built again"))
    assert again == first
    assert again.path.stat().st_mtime_ns == written
    assert find_plan(order, tmp_path, rtx) == first


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precision_changes_the_graph_but_not_its_inputs_and_outputs(
    tmp_path: Path, order: PlanOrder, rtx: Flavour, precision: Precision
) -> None:
    full = build_plan(order, tmp_path, rtx)
    less = build_plan(replace(order, precision=precision), tmp_path, rtx)
    assert less.path != full.path
    assert less.manifest.precision == precision
    assert (less.manifest.inputs, less.manifest.outputs) == (full.manifest.inputs, full.manifest.outputs)


def test_another_order_is_another_plan(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    build_plan(order, tmp_path, rtx)
    changed = tmp_path / "changed" / "net.onnx"
    changed.parent.mkdir()
    model = onnx.load(order.onnx)
    model.producer_name = "somebody else"
    onnx.save(model, changed)
    assert find_plan(replace(order, onnx=changed), tmp_path, rtx) is None
    assert find_plan(replace(order, precision="fp16"), tmp_path, rtx) is None
    assert find_plan(replace(order, max_batch=8), tmp_path, rtx) is None
    assert find_plan(replace(order, pixels=replace(PIXELS, order="rgb")), tmp_path, rtx) is None
    assert find_plan(replace(order, outputs=("heatmaps",)), tmp_path, rtx) is None
    assert find_plan(order, tmp_path, replace(rtx, version="1.0")) is None
    assert find_plan(order, tmp_path, replace(rtx, target="sm75")) is None
    assert find_plan(order, tmp_path, replace(rtx, name="tensorrt")) is None


def test_a_plan_of_another_machine_is_never_used(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    plan = build_plan(order, tmp_path, rtx)
    turing = replace(rtx, target="sm75")
    copied = order.path(tmp_path, order.key(turing))
    copied.write_bytes(plan.path.read_bytes())
    manifest_path(copied).write_bytes(manifest_path(plan.path).read_bytes())
    assert find_plan(order, tmp_path, turing) is None


@pytest.mark.parametrize("damage", ["cut off", "changed", "no manifest", "manifest cut off", "gone"])
def test_a_damaged_plan_is_built_again(tmp_path: Path, order: PlanOrder, rtx: Flavour, damage: str) -> None:
    plan = build_plan(order, tmp_path, rtx)
    whole, manifest = plan.path.read_bytes(), manifest_path(plan.path)
    if damage == "cut off":
        plan.path.write_bytes(whole[: len(whole) // 2])
    elif damage == "changed":
        plan.path.write_bytes(whole[:1000] + b"x" + whole[1001:])
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "manifest cut off":
        manifest.write_text(manifest.read_text("utf-8")[:100], "utf-8")
    else:
        plan.path.unlink()
    assert find_plan(order, tmp_path, rtx) is None
    again = build_plan(order, tmp_path, rtx)
    assert again.path == plan.path
    assert find_plan(order, tmp_path, rtx) == again


BUILD = """
import sys
from pathlib import Path
from engines.build.compile import build_plan
from engines.plans.flavour import TENSORRT_RTX, find_flavour
from engines.plans.find import PlanOrder
plan = build_plan(
    PlanOrder(Path(sys.argv[1]), "fp32", 4), Path(sys.argv[2]), find_flavour(None, [TENSORRT_RTX]),
    progress=lambda share, phase: print("builds", flush=True), waiting=lambda: print("waits", flush=True),
)
print(plan.manifest.built_at, plan.manifest.plan_sha256)
"""


def builder(order: PlanOrder, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(order.onnx), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")


def test_two_processes_at_once_build_once(tmp_path: Path, order: PlanOrder) -> None:
    processes = [builder(order, tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("builds" in lines for lines in said) == 1
    assert said[0][-1] == said[1][-1], "both have the same plan"


def test_a_killed_builder_does_not_block_the_next(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    with builder(order, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "builds\n"
        os.kill(process.pid, signal.SIGKILL)
    left = order.path(tmp_path, order.key(rtx))
    abandoned = left.with_name(f".{left.stem}-draft")
    abandoned.write_bytes(b"half a plan")  # a partial file of the killed builder

    waits: list[str] = []
    plan = build_plan(order, tmp_path, rtx, waiting=lambda: waits.append("waits"))
    assert not waits
    assert not abandoned.exists()
    assert plan.read()


def test_the_second_builder_waits_for_the_first(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    plain = replace(order, pixels=None)
    path = plain.path(tmp_path, plain.key(rtx))
    with locked(path.with_suffix(".lock")):
        process = builder(plain, tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.05)
        assert process.poll() is None
    said, _ = process.communicate(timeout=60)
    assert "builds" in said
    wait_for(path.exists)


def test_a_graph_that_mixes_its_batch_gets_a_plan_for_batches_of_one(tmp_path: Path, rtx: Flavour) -> None:
    mean = [
        helper.make_node("ReduceMean", ["a"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["a", "mean"], ["b"]),
    ]
    graph = save_onnx(tmp_path / "mix.onnx", mean, {}, "a: n, 3, 8, 8", "b: n, 3, 8, 8")
    assert build_plan(PlanOrder(graph, "fp32", 4), tmp_path, rtx).manifest.batch_sizes == (1,)


def test_an_unsupported_operator_is_named_with_its_node(tmp_path: Path, rtx: Flavour) -> None:
    nodes = [helper.make_node("Det", ["a"], ["b"], name="determinant")]
    graph = save_onnx(tmp_path / "det.onnx", nodes, {}, "a: n, 3, 3", "b: n")
    with pytest.raises(PlanBuildError, match=r"cannot take node determinant \(Det\).* backend openvino"):
        build_plan(PlanOrder(graph, "fp32", 1), tmp_path, rtx)
    assert not list(tmp_path.glob("*.plan"))
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"outputs": ("poses",)}, "has no output poses; it has heatmaps, means"),
        ({"onnx": Path("net.xml")}, "is no ONNX graph"),
        ({"onnx": Path("missing.onnx")}, "cannot be read"),
    ],
    ids=["unknown output", "another format", "missing"],
)
def test_build_errors_are_one_sentence(
    tmp_path: Path, order: PlanOrder, rtx: Flavour, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(PlanBuildError, match=says):
        build_plan(replace(order, **change), tmp_path, rtx)


def test_a_graph_without_a_fixed_size_needs_pixels(tmp_path: Path, rtx: Flavour) -> None:
    graph = save_heatmap_onnx(tmp_path / "net.onnx", sides="n, 3, h, w")
    with pytest.raises(PlanBuildError, match=r"input image is \(n, 3, free, free\)"):
        build_plan(PlanOrder(graph, "fp32", 2), tmp_path, rtx)
    assert build_plan(PlanOrder(graph, "fp32", 2, PIXELS), tmp_path, rtx).manifest.inputs[0].shape == (64, 48, 3)


def test_a_damaged_file_is_named(tmp_path: Path, rtx: Flavour) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(save_heatmap_onnx(tmp_path / "net.onnx").read_bytes()[:700])
    with pytest.raises(PlanBuildError, match=r"cut\.onnx"):
        build_plan(PlanOrder(path, "fp32", 1), tmp_path, rtx)


def test_a_plan_file_can_be_opened(tmp_path: Path, order: PlanOrder, rtx: Flavour) -> None:
    plan = build_plan(order, tmp_path, rtx)
    assert PlanFile.open(plan.path) == plan
