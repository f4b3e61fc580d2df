"""Manifests of plans, and plans that do not match them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.inputs import PixelInput, TensorSpec
from engines.plans.manifest import Manifest, PlanError, PlanFile, manifest_path

PLAN = b"a plan"
MANIFEST = Manifest(
    key="0123456789abcdef",
    onnx_sha256="f" * 64,
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    flavour="tensorrt",
    version="11.4.0.106",
    gpu="sm90-nvidia-h100-80gb-hbm3",
    asked="fp16",
    precision="bf16",
    batch_sizes=(1, 2, 4),
    pixels=PixelInput(64, 48, "bgr", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), pad="edge"),
    inputs=(TensorSpec("images", (64, 48, 3), np.dtype(np.uint8)),),
    outputs=(TensorSpec("dets", (-1, 5), np.dtype(np.float32)),),
    built_at="2026-11-21T12:00:00+00:00",
    seconds=12.5,
    evaluation_images="e" * 64,
    gate=({"precision": "fp16", "passed": False}, {"precision": "bf16", "passed": True}),
)


def saved(folder: Path, manifest: Manifest = MANIFEST) -> Path:
    path = folder / "tiny.plan"
    path.write_bytes(PLAN)
    manifest_path(path).write_text(manifest.dump(), "utf-8")
    return path


@pytest.mark.parametrize("manifest", [MANIFEST, replace(MANIFEST, pixels=None, evaluation_images=None, gate=())])
def test_a_manifest_survives_a_round_trip(tmp_path: Path, manifest: Manifest) -> None:
    plan = PlanFile.open(saved(tmp_path, manifest))
    assert plan.manifest == manifest
    assert plan.read() == PLAN


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(PLAN[:-1])
    with pytest.raises(PlanError, match=r"tiny\.plan: damaged"):
        PlanFile.open(path).read()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", json.dumps(json.loads(MANIFEST.dump()) | {"batch_sizes": 3}), "\udcff"],
    ids=["empty", "cut off", "a list", "null", "no keys", "wrong type", "no text"],
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = saved(tmp_path)
    manifest_path(path).write_text(text, errors="surrogateescape", encoding="utf-8")
    with pytest.raises(PlanError, match=r"tiny\.json: .*(damaged|cannot be read)"):
        PlanFile.open(path)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    manifest_path(path).write_text(json.dumps(json.loads(MANIFEST.dump()) | {"format": 99}), "utf-8")
    with pytest.raises(PlanError, match="not of format 1"):
        PlanFile.open(path)


def test_a_missing_plan_or_manifest_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path)
    manifest_path(path).unlink()
    with pytest.raises(PlanError, match=r"tiny\.json: cannot be read"):
        PlanFile.open(path)
    with pytest.raises(PlanError, match="there is no plan"):
        PlanFile.open(tmp_path / "other.plan")
