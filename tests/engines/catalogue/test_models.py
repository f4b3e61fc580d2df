"""The catalogue: the built-in models, and those of users' files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.catalogue import CatalogueError, FetchError, UnknownModelError
from engines.catalogue import models as catalogue
from engines.catalogue.fetch.sources import CheckpointSource, File, FileSource, HttpsSource, NpmSource, PypiSource
from engines.families import DETECTORS, ESTIMATORS, ONE_STAGE_MODELS
from engines.inputs import PixelInput
from tests.engines.catalogue.entries import estimator
from tests.shared import SHARED, needs_shared

WEIGHTS = SHARED / "data" / "weights"


_UNPINNED = {
    *("rtmo-t", "rtmo-s", "rtmo-m", "rtmo-l"),
    *("vitpose-b", "vitpose-l", "yolo26n-pose", "yolo26s-pose"),
    *("rtmw-m", "rtmw-l", "rtmw-l-384", "rtmw-x-384", "rtmw3d-x"),
    *("dwpose-t", "dwpose-s", "dwpose-m", "dwpose-l", "dwpose-l-384"),
    *("rtmdet-nano-hand", "rtmpose-m-hand", "rtmpose-t-face", "rtmpose-s-face", "rtmpose-m-face"),
    *("yolox-s-animals", "rtmpose-m-animal"),
}
"""Models whose publishers give no digests."""


def test_the_built_in_models(tmp_path: Path) -> None:
    models = catalogue.load([], tmp_path)
    assert len(models) == len(models.models()) == len(list(models))
    assert models.defaults == ("rtmpose-s", "movenet-thunder", "movenet-multipose", "blazepose")
    for model in models.models():
        assert model.title
        assert model.publisher
        assert model.accuracy or model.role == "detector"
        assert all(file.sha256 for file in model.files) or model.name in _UNPINNED
        assert not model.cached
        if model.name in models.defaults:
            assert all(part.commercial and part.name not in _UNPINNED for part in models.parts(model.name))
    blazepose = models["blazepose"]
    assert blazepose.source == PypiSource("mediapipe", "0.10.21", "3.11", "manylinux_2_28_x86_64")
    assert blazepose.input == PixelInput(256, 256, "rgb", (0, 0, 0), (255, 255, 255), "edge")
    assert [part.name for part in models.parts("blazepose")] == ["blazepose", "blazepose-detector"]
    assert models["blazepose-detector"].options == {"tiles": (2, 3)}
    assert models["blazepose-detector-single"].options == {"tiles": ()}
    assert [part.input.order for part in models.parts("rtmpose-s")] == ["rgb", "bgr"]


ROWS = {
    "simple-baseline-r50": ("MIT, weights for research", False, "AP 70.4 (COCO val2017, flip test)"),
    "simple-baseline-r101": ("MIT, weights for research", False, "AP 71.4 (COCO val2017, flip test)"),
    "simple-baseline-r152": ("MIT, weights for research", False, "AP 72.0 (COCO val2017, flip test)"),
    "hrnet-w32": ("MIT", True, "AP 74.4 (COCO val2017, flip test)"),
    "hrnet-w48": ("MIT", True, "AP 75.1 (COCO val2017, flip test)"),
    "higherhrnet-w32": ("MIT", True, "AP 67.1 (COCO val2017, flip test, one scale)"),
    "higherhrnet-w48": ("MIT", True, "AP 69.9 (COCO val2017, flip test, one scale)"),
    "hourglass-8": ("BSD-3-Clause", True, "PCKh@0.5 90.1 (MPII validation)"),
    "rtmdet-nano": ("Apache-2.0", True, "box AP 40.3 (COCO val2017, persons)"),
    "rtmdet-m": ("Apache-2.0", True, "box AP 62.5 (COCO val2017, persons)"),
    "rtmpose-t": ("Apache-2.0", True, "AP 65.9 (COCO val2017)"),
    "rtmpose-s": ("Apache-2.0", True, "AP 69.7 (COCO val2017)"),
    "rtmpose-m": ("Apache-2.0", True, "AP 74.9 (COCO val2017)"),
    "rtmpose-l": ("Apache-2.0", True, "AP 76.7 (COCO val2017)"),
    "rtmo-s": ("Apache-2.0", True, "AP 68.6 (COCO val2017)"),
    "rtmo-m": ("Apache-2.0", True, "AP 72.6 (COCO val2017)"),
    "rtmo-l": ("Apache-2.0", True, "AP 74.8 (COCO val2017)"),
    "detrpose-s": ("Apache-2.0", True, "AP 67.0 (COCO val2017)"),
    "detrpose-m": ("Apache-2.0", True, "AP 69.4 (COCO val2017)"),
    "detrpose-l": ("Apache-2.0", True, "AP 72.5 (COCO val2017)"),
    "detrpose-x": ("Apache-2.0", True, "AP 73.3 (COCO val2017)"),
    "movenet-thunder": ("Apache-2.0", True, "AP 46.6 (32 images of COCO val2017 with several people; measured)"),
    "movenet-multipose": ("Apache-2.0", True, "AP 33.2 (32 images of COCO val2017 with several people; measured)"),
    "human-pose-estimation-0001": ("Apache-2.0", True, "AP 42.8 (a part of COCO val)"),
    "posenet": ("Apache-2.0", True, "AP 25.9 (32 images of COCO val2017 with several people; measured)"),
    "blazepose": ("Apache-2.0", True, "PCK@0.2 95.5 (yoga), 96.3 (dance), 95.7 (HIIT): one person, 2 to 4 m away"),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_promised_model_has_a_row_with_publisher_licence_and_accuracy(name: str) -> None:
    model = catalogue.load([])[name]
    assert (model.licence, model.commercial, model.accuracy) == ROWS[name]
    assert model.publisher
    assert isinstance(model.source, PypiSource | NpmSource) or model.source.origin.rpartition(" ")[2].startswith(
        "https://"
    )
    families = DETECTORS if model.role == "detector" else ESTIMATORS if model.role == "estimator" else ONE_STAGE_MODELS
    assert model.family in families


def test_a_model_that_has_to_be_built_says_how(tmp_path: Path) -> None:
    model = catalogue.load([], tmp_path)["hrnet-w32"]
    page = "https://github.com/leoxiaobin/deep-high-resolution-net.pytorch"
    assert model.source == CheckpointSource(page, "pose_hrnet_w32_256x192.pth", "hrnet-w32")
    assert not model.cached
    with pytest.raises(FetchError) as caught:
        model.fetch()
    assert caught.value.hint == (
        f"get pose_hrnet_w32_256x192.pth of {page} and run "
        "`posewire build hrnet-w32 --checkpoint pose_hrnet_w32_256x192.pth`"
    )


def test_a_model_whose_authors_make_its_graph_says_how(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        catalogue.load([], tmp_path)["detrpose-s"].fetch()
    assert caught.value.hint == (
        "get detrpose_hgnetv2_s.pth of https://github.com/SebastianJanampa/DETRPose and run "
        "`python tools/deployment/export_onnx.py -c configs/detrpose/detrpose_hgnetv2_s.py -r detrpose_hgnetv2_s.pth` "
        "in a copy of that repository; then `posewire models check` on the graph that it writes"
    )


def test_a_graph_and_its_weights_are_files_of_one_folder() -> None:
    model = catalogue.load([])["human-pose-estimation-0001"]
    assert isinstance(model.source, HttpsSource)
    graph, weights = (model.source.url_of(file) for file in model.files)
    assert graph.endswith("/FP32/human-pose-estimation-0001.xml")
    assert weights == graph.removesuffix("xml") + "bin"


def test_models_of_one_source_share_its_download(tmp_path: Path) -> None:
    models = catalogue.load([], tmp_path)
    pose, detector = models["blazepose"], models["blazepose-detector-single"]
    assert pose.also == detector.files
    assert detector.also == pose.files
    assert isinstance(pose.source, PypiSource)
    assert pose.source.key
    assert {part.source for part in (pose, detector, models["blazepose-single"])} == {pose.source}
    assert models["rtmpose-s"].also == ()
    assert models["movenet-thunder"].also == models["nanodet"].files  # not those of other models of the package


def test_an_unknown_name_gets_the_closest_known_ones(tmp_path: Path) -> None:
    models = catalogue.load([], tmp_path)
    with pytest.raises(UnknownModelError) as caught:
        models["blaze-pose"]
    assert str(caught.value).startswith("no model is called 'blaze-pose'; did you mean blazepose or ")
    with pytest.raises(KeyError, match="there are blazepose, "):
        models["?"]
    assert "?" not in models


def test_a_users_entries_come_last_and_replace_others(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = '{ kind = "file", path = "a.onnx" }'
    own.write_text(
        estimator("mine", source) + estimator("rtmpose-s", source, 'detector = "rtmdet-m"'), encoding="utf-8"
    )
    later = tmp_path / "later.toml"
    later.write_text(
        estimator("mine", '{ kind = "file", path = "own" }', 'files = [{ path = "a.onnx" }]', 'title = "x"'), "utf-8"
    )
    monkeypatch.setenv("POSEWIRE_CATALOGUE", os.pathsep.join([str(own), "", str(later)]))
    models = catalogue.load()
    mine = models["mine"]
    assert (mine.title, mine.licence, mine.detector, mine.declared_in) == ("x", "unknown", None, later)
    assert mine.source == FileSource(tmp_path / "own")
    assert mine.cached
    assert mine.fetch() == models["rtmpose-s"].fetch() == own.parent / "a.onnx"
    assert models["rtmpose-s"].files == (File("a.onnx"),)
    assert models.parts("mine") == (mine,)
    assert next(iter(catalogue.load([]))) == "blazepose"
    assert list(models)[-1] == "mine"


def test_entries_cannot_be_changed(own: Path, tmp_path: Path) -> None:
    own.write_text(
        estimator("mine", '{ kind = "file", path = "a.onnx" }', "options = { a = [1, { b = [2] }] }"), encoding="utf-8"
    )
    model = catalogue.load([own], tmp_path)["mine"]
    with pytest.raises(TypeError):
        model.options["a"] = 1  # type: ignore[index]
    assert model.options == {"a": (1, {"b": (2,)})}
    assert hash(model) == hash(catalogue.load([own], tmp_path)["mine"])


def test_where_fetched_files_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalogue.load()["blazepose"].cache == tmp_path / ".cache" / "posewire" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert catalogue.load()["blazepose"].cache == tmp_path / "xdg" / "posewire" / "models"
    monkeypatch.setenv("POSEWIRE_MODELS", "~/models")
    assert catalogue.load()["blazepose"].cache == tmp_path / "models"
    assert catalogue.load(cache=tmp_path)["blazepose"].cache == tmp_path


@needs_shared
def test_a_folder_of_real_models(tmp_path: Path) -> None:
    own = tmp_path / "weights.toml"
    folder = f'{{ kind = "file", path = "{os.path.relpath(WEIGHTS, tmp_path)}" }}'
    network = 'files = [{ path = "tinypose_256x192/model.xml" }, { path = "tinypose_256x192/model.bin" }]'
    own.write_text(estimator("tinypose", folder, network), "utf-8")
    model = catalogue.load([own], tmp_path / "cache")["tinypose"]
    assert model.cached
    assert model.fetch().samefile(WEIGHTS / "tinypose_256x192" / "model.xml")


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "POSEWIRE_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    with pytest.raises(CatalogueError, match="no home folder for models; name one in POSEWIRE_MODELS"):
        catalogue.load([])
    monkeypatch.setenv("POSEWIRE_MODELS", "~nobody-of-this-name")
    with pytest.raises(CatalogueError, match="POSEWIRE_MODELS names '~nobody-of-this-name'"):
        catalogue.load([])
