"""Checkpoints: the formats of authors' files, and the messages for files that do not fit."""

from __future__ import annotations

import hashlib
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import safetensors.torch
import torch

from engines.networks import build_network
from engines.networks.checkpoints import CheckpointError, keypoints_in, load_network, read_state

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> State:
    """Simple Baselines' weights: zeros that take no memory, except for one tensor."""
    with torch.device("meta"):
        shapes = build_network("simple-baseline-r50").state_dict()
    state = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in shapes.items()}
    return state | {"final_layer.bias": torch.arange(17.0)}


def small() -> State:
    """Two of a network's weights."""
    return {"final_layer.bias": torch.arange(17.0), "bn1.num_batches_tracked": torch.tensor(3)}


WRAPPED: dict[str, Callable[[State], object]] = {
    "the state alone, as Simple Baselines, HRNet and HigherHRNet": lambda state: state,
    "DataParallel, as CPN": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3},
    "a trainer around DataParallel, as the hourglass": lambda state: {
        "state_dict": {f"model.module.{k}": v for k, v in state.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
    },
    "nested twice": lambda state: {"model": {"state_dict": state}},
    "torch.compile": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["new", "of 2018"])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_weights_are_read_from_all_forms_that_training_scripts_save(
    wrap: Callable[[State], object], zipped: bool, tmp_path: Path
) -> None:
    torch.save(wrap(small()), tmp_path / "file.pth.tar", _use_new_zipfile_serialization=zipped)
    state = read_state(tmp_path / "file.pth.tar")
    assert list(state) == list(small())
    torch.testing.assert_close(state["final_layer.bias"], torch.arange(17.0))


def test_safetensors_are_detected_by_content_and_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = {"module.final_layer.bias": torch.arange(17.0).half(), "module.bn1.num_batches_tracked": torch.tensor(3)}
    safetensors.torch.save_file(half, tmp_path / "file.bin")
    state = read_state(tmp_path / "file.bin")
    assert {key: tensor.dtype for key, tensor in state.items()} == {
        "final_layer.bias": torch.float32,
        "bn1.num_batches_tracked": torch.int64,
    }
    torch.testing.assert_close(state["final_layer.bias"], torch.arange(17.0))


def test_a_network_takes_the_weights_and_the_number_of_keypoints_of_a_file(weights: State, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "coco.pth")
    network = load_network("simple-baseline-r50", tmp_path / "coco.pth")
    assert not network.training
    with torch.inference_mode():
        heatmaps = network(torch.zeros(1, 3, 32, 32))
    assert heatmaps.shape == (1, 17, 8, 8)
    torch.testing.assert_close(heatmaps[0, :, 0, 0], torch.arange(17.0))

    torch.save(of_other_keypoints(weights, 16), tmp_path / "mpii.pth")
    network = load_network("simple-baseline-r50", tmp_path / "mpii.pth")
    assert network.state_dict()["final_layer.bias"].shape == (16,)


def of_other_keypoints(weights: State, count: int) -> State:
    head = {"final_layer.weight": torch.zeros(()).expand(count, 256, 1, 1), "final_layer.bias": torch.zeros(count)}
    return weights | head


@pytest.mark.parametrize(
    ("name", "count"),
    [("hrnet-w32", 16), ("higherhrnet-w32", 14), ("hourglass-8", 16), ("cpn-r50", 1)],
)
def test_the_number_of_keypoints_is_derived_from_the_weights(name: str, count: int) -> None:
    with torch.device("meta"):
        state = build_network(name, count).state_dict()
    assert keypoints_in(name, state) == count


def test_a_file_of_another_network_is_refused_and_named(weights: State, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "r50.pth")
    with pytest.raises(CheckpointError) as refused:
        load_network("simple-baseline-r101", tmp_path / "r50.pth")
    said = str(refused.value)
    assert "r50.pth does not fit simple-baseline-r101: lacks layer3.6.conv1.weight, " in said
    assert "more. 100% of it fits simple-baseline-r50 with 17 keypoints: build that one" in said


def test_a_file_with_other_keypoints_than_asked_for_is_refused(weights: State, tmp_path: Path) -> None:
    torch.save(of_other_keypoints(weights, 16), tmp_path / "mpii.pth")
    with pytest.raises(CheckpointError) as refused:
        load_network("simple-baseline-r50", tmp_path / "mpii.pth", num_keypoints=17)
    said = str(refused.value)
    assert "of another shape: final_layer.weight is 16x256x1x1, not 17x256x1x1, final_layer.bias is 16, not 17" in said
    assert "fits simple-baseline-r50 with 16 keypoints" in said


def test_missing_and_extra_weights_of_a_variant_are_named(weights: State, tmp_path: Path) -> None:
    variant = {key: tensor for key, tensor in weights.items() if key != "conv1.weight"} | {"se.weight": torch.zeros(3)}
    torch.save(variant, tmp_path / "variant.pth")
    with pytest.raises(CheckpointError, match=r"lacks conv1\.weight; has besides se\.weight\. 99% of it .* a variant"):
        load_network("simple-baseline-r50", tmp_path / "variant.pth")


def test_a_file_of_something_else_fits_none(tmp_path: Path) -> None:
    torch.save({"transformer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="It fits none of the networks"):
        load_network("hrnet-w32", tmp_path / "other.pth")


NOW = datetime(2026, 11, 29, tzinfo=UTC)
BESIDE: dict[str, object] = {
    "numbers of numpy": [np.int64(140), np.float64(0.7), np.float32(1), np.bool_(True), np.str_("x")],
    "arrays of numpy": [np.arange(5.0), np.zeros((0, 3)), np.array([1, "a", None], object), np.dtype("float32")],
    "options": [Namespace(lr=0.1, seed=np.int64(1)), SimpleNamespace(a={"b": [1]}), OrderedDict(a=np.float32(2))],
    "times": [NOW, NOW.date(), timedelta(3)],
    "paths": [Path("/data/coco"), PureWindowsPath("c:/data")],
    "containers": [defaultdict(list, a=[1]), Counter("ab"), deque([1]), {1, 2}, frozenset([1]), range(3)],
    "state of random numbers": [np.random.RandomState(0).get_state(), torch.get_rng_state()],
}


@pytest.mark.parametrize("zipped", [True, False], ids=["new", "of 2018"])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
def test_values_beside_the_weights_are_ignored(beside: object, zipped: bool, tmp_path: Path) -> None:
    saved = {"epoch": beside, "state_dict": small(), "optimizer": {"param_groups": [{"lr": np.float64(1e-3)}]}}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert list(read_state(tmp_path / "a.pth")) == list(small())


def test_numbers_saved_by_numpy_1_are_ignored(tmp_path: Path) -> None:
    torch.save({"state_dict": small(), "loss": np.float64(1)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    old = (tmp_path / "a.pth").read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"cnumpy.core.multiarray" in old
    (tmp_path / "a.pth").write_bytes(old)
    assert list(read_state(tmp_path / "a.pth")) == list(small())


@pytest.mark.parametrize("place", ["data/0", "data.pkl"])
def test_a_flipped_bit_in_an_archive_is_detected_by_its_checksum(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.pth"
    torch.save(small(), path)
    with zipfile.ZipFile(path) as archive:
        content = archive.read(f"a/{place}")
    path.write_bytes(path.read_bytes().replace(content, content[:-1] + bytes([content[-1] ^ 1])))
    with pytest.raises(CheckpointError, match=rf"a\.pth is damaged: the checksum of a/{place} is wrong; get it again"):
        read_state(path)


def test_a_file_is_verified_against_the_digest_in_its_name(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "draft")
    content = (tmp_path / "draft").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    (tmp_path / f"w32_256x192-{digest}_20200708.pth").write_bytes(content)
    assert read_state(tmp_path / f"w32_256x192-{digest}_20200708.pth")
    (tmp_path / "w32_256x192-00000000.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"its SHA-256 begins with {digest}, and its name says 00000000; get it"):
        read_state(tmp_path / "w32_256x192-00000000.pth")


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.tensor([1.0, float("nan")]), "is damaged: x holds numbers that are not finite"),
        (torch.zeros(()).expand(1 << 16, 1 << 16), "holds more than 1,073,741,824 numbers"),
        (torch.zeros(3).to_sparse(), "x is not a plain tensor"),
        (torch.zeros(3, dtype=torch.complex64), "x is not a plain tensor"),
    ],
)
def test_tensors_that_no_network_has_are_refused(tensor: torch.Tensor, says: str, tmp_path: Path) -> None:
    torch.save({"x": tensor}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=says):
        read_state(tmp_path / "a.pth")


def test_integer_weights_are_refused(weights: State, tmp_path: Path) -> None:
    torch.save(weights | {"final_layer.bias": torch.arange(17)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"of another kind of number: final_layer\.bias is torch\.int64"):
        load_network("simple-baseline-r50", tmp_path / "a.pth")


class Payload:
    """Runs code while it is unpickled, like a hostile file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_file_runs_no_code(zipped: bool, tmp_path: Path) -> None:
    sign = tmp_path / "ran"
    torch.save(
        {"state_dict": small(), "x": Payload(sign)}, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(
        CheckpointError,
        match=r"evil\.pth holds more than tensors, .* \([\w.]+\), .* safetensors\.torch\.save_file",
    ):
        read_state(tmp_path / "evil.pth")
    assert not sign.exists()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("kind", ["torch", "torch of 2018", "safetensors", "text", "nothing"])
def test_a_broken_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    if kind == "safetensors":
        safetensors.torch.save_file(small(), path)
    elif kind.startswith("torch"):
        torch.save(small(), path, _use_new_zipfile_serialization=kind == "torch")
    else:
        path.write_text("<html>404 Not Found</html>" * 9 if kind == "text" else "", "utf-8")
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        read_state(path)


def test_a_file_that_is_missing_or_has_no_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*absent\.pth: No such file"):
        read_state(tmp_path / "absent.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="holds no weights; expected tensors by name"):
        read_state(tmp_path / "empty.pth")


def test_old_files_without_batch_counters_load(weights: State, tmp_path: Path) -> None:
    old = {key: tensor for key, tensor in weights.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network = load_network("simple-baseline-r50", tmp_path / "old.pth")
    assert network.state_dict()["bn1.num_batches_tracked"] == 0
