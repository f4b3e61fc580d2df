"""`posewire build MODEL`: a plan, found again, and one line for what cannot be built."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[rtx]'")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")

from engines.plans.gpu import find_gpu
from engines.plans.manifest import PlanFile
from service.cli.main import main
from tests.engines.build.onnx_graphs import save_heatmap_onnx
from tests.frugal import run_frugally
from tests.graphs import tiny_catalogue

pytestmark = pytest.mark.skipif(find_gpu() is not None, reason="says what TensorRT-RTX builds where there is no GPU")

CATALOGUE = """
[models.spots]
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
source = { kind = "file", path = "net.onnx" }
input = { width = 48, height = 64, std = [255, 255, 255] }
options = { output = "heatmaps" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a catalogue of an ONNX model, `spots`, and others that are no ONNX graphs."""
    save_heatmap_onnx(tmp_path / "net.onnx")
    (tmp_path / "spots.toml").write_text(CATALOGUE, "utf-8")
    monkeypatch.setenv("POSEWIRE_CATALOGUE", f"{tmp_path / 'spots.toml'}:{tiny_catalogue(tmp_path)}")
    monkeypatch.setenv("POSEWIRE_MODELS", str(tmp_path / "cache"))
    return tmp_path


def build(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["build", *arguments])


def test_a_model_becomes_a_plan_which_is_found_again(folder: Path) -> None:
    first = build("spots", "--precision", "fp32", "--max-batch", "2")
    assert first.exit_code == 0, first.stderr
    [path] = (folder / "cache/plans").glob("*.plan")
    plan = PlanFile.open(path)
    assert plan.manifest.batch_sizes == (1, 2)
    assert [spec.name for spec in plan.manifest.outputs] == ["heatmaps"], "what its family reads"
    assert first.stdout == f"spots: {path}\n  fp32, batches of 1, 2, in {plan.manifest.seconds:.1f} s\n"

    again = run_frugally("build", "spots", "--precision", "fp32", "--max-batch", "2", folder=folder)
    assert again.stdout == f"spots: {path}\n  fp32, batches of 1, 2, already built\n"
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("tiny",), 1, "tiny.xml is no ONNX graph; plans are built of nothing else"),
        (("spotz",), 1, "did you mean spots"),
        (("spots", "--precision", "fp8"), 2, "'fp8' is not one of"),
        (("spots", "--max-batch", "0"), 2, "0 is not in the range"),
        (("spots", "--images", "nowhere"), 1, "nowhere is not a folder of images"),
        (("spots", "--precision", "int8", "--for", "gpu"), 1, "int8 takes its scales from real images"),
        (("spots", "--lean", "--for", "cpu"), 2, "--lean is of plans, which are for GPUs"),
        (("spots", "--for", "cpu"), 2, "for the CPU there are int8 models to build"),
        (("spots", "--name", "mine"), 2, "--name: only with --checkpoint"),
    ],
)
def test_what_cannot_be_built_is_one_line(folder: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = build(*arguments)
    assert done.exit_code == status
    assert says in done.stderr.splitlines()[-1]
    assert not (folder / "cache").exists() or not list((folder / "cache").rglob("*.plan"))


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="is about machines without TensorRT itself")
def test_tensorrt_rtx_builds_nothing_for_the_lean_runtime(folder: Path) -> None:
    done = build("spots", "--lean")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: plans for the lean runtime are built by TensorRT alone, TensorRT-RTX has no")
    assert not (folder / "cache").exists()
