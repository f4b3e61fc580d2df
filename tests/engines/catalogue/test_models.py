"""The catalogue: valid and invalid files, and the choice of the default model."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from engines.catalogue import CatalogueError, Choice, FetchError, UnknownModelError
from engines.catalogue import models as catalogue
from engines.catalogue.fetch.sources import CheckpointSource, File, FileSource, HttpsSource, NpmSource, PypiSource
from engines.families import DETECTORS, ESTIMATORS, ONE_STAGE_MODELS
from engines.inputs import PixelInput
from tests.shared import SHARED, needs_shared

WEIGHTS = SHARED / "data" / "weights"
INPUT = "input = { width = 192, height = 256 }"


def estimator(name: str, source: str, *more: str) -> str:
    """A valid entry, followed by the lines `more`."""
    lines = [f"[models.{name}]", 'role = "estimator"', 'family = "simcc"', 'skeleton = "coco-17"', "commercial = true"]
    return "\n".join([*lines, f"source = {source}", INPUT, *more, ""])


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSEWIRE_CATALOGUE", "POSEWIRE_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A catalogue file of the user's in a folder with one model file."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "a.onnx").write_bytes(b"a")
    return folder / "own.toml"


_UNPINNED = {
    *("rtmo-t", "rtmo-s", "rtmo-m", "rtmo-l", "posenet"),
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
    assert model.source == CheckpointSource("hrnet-w32", page, "pose_hrnet_w32_256x192.pth")
    assert not model.cached
    with pytest.raises(FetchError) as caught:
        model.fetch()
    assert caught.value.hint == (
        f"get pose_hrnet_w32_256x192.pth of {page} and run "
        "`posewire build hrnet-w32 --checkpoint pose_hrnet_w32_256x192.pth`"
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 3", "models: is 3; it must be a table"),
        ("model = {}", "model: is not a key here; those are models, skeletons, defaults"),
        ("defaults = ['none']", "defaults: is 'none'; it must be one of blazepose, "),
        ("defaults = [1]", r"defaults\[0\]: is 1; it must be a valid string"),
        ("[models]\na = 1", r"\[models.a\]: is 1; it must be a table"),
        ("[models.'a/b']\n", r"\[models.a/b\] name: is 'a/b'; it must be of the form"),
        ("[models.a]\n", r"\[models.a\] role: is missing"),
        (
            "[models.a]\nrole = 'Detector'",
            r"\[models.a\] role: is 'Detector'; it must be 'detector', 'estimator', 'one-stage' or 'bottom-up'",
        ),
        ("not toml", "is not TOML"),
    ],
)
def test_files_that_are_refused(own: Path, tmp_path: Path, text: str, message: str) -> None:
    own.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError, match=rf"own\.toml: {message}"):
        catalogue.load([own], tmp_path)


HTTPS = '{ kind = "https", url = "https://models.example/a.zip" }'
FILES = 'files = [{ path = "a" }]'
ZIPPED = "files = [{ path = 'm', archive = 'z' }]"


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("3", "", "source: is 3; it must be a table"),
        ("{}", "", "source kind: is missing; it must be one of checkpoint, file, https, npm, pypi"),
        ('{ kind = "ftp" }', "", "source kind: is 'ftp'; it must be one of checkpoint, file, https, npm, pypi"),
        ('{ kind = "file" }', "", "source path: is missing"),
        ('{ kind = "https", url = "http://a.example/b" }', FILES, "source url: is .* it must be an https:// address"),
        (
            '{ kind = "https", url = "https://a.example/b", sha = "" }',
            FILES,
            "source sha: is not a key here; those are",
        ),
        ('{ kind = "pypi", package = "-r", version = "1" }', FILES, "source package: is '-r'; it must be of the form"),
        (
            '{ kind = "npm", package = "@a/../b", version = "1.0.0" }',
            FILES,
            "source package: is '@a/../b'; it must be of",
        ),
        (
            '{ kind = "npm", package = "--a", version = "1.0.0" }',
            FILES,
            "source package: is '--a'; it must be of the form",
        ),
        (
            '{ kind = "npm", package = "a", version = "latest" }',
            FILES,
            "source version: is 'latest'; it must be of the",
        ),
        ('{ kind = "npm", package = "a", version = "1.0" }', FILES, "source version: is '1.0'; it must be of the form"),
        (
            '{ kind = "file", path = "a" }',
            "files = [{ path = 'm', archive = 'z' }]",
            "files: archive is a key for members",
        ),
        (
            '{ kind = "https", url = "https://a.example/b/" }',
            "files = [{ path = 'm', archive = 'z' }]",
            "files: archive is a key for members of wheels, npm packages and zips",
        ),
        (HTTPS, "files = [{ path = 'm', archive = '../z' }]", r"files\[0\] archive: is '../z'; it must be relative"),
        (HTTPS, "", "files: must be a list of one or more tables"),
        (HTTPS, "files = []", "files: must be a list of one or more tables"),
        (HTTPS, "files = ['a']", r"files\[0\]: is 'a'; it must be a table"),
        (HTTPS, "files = [{ path = '../a' }]", r"files\[0\] path: is '../a'; it must be relative"),
        (HTTPS, "files = [{ path = '/a' }]", r"files\[0\] path: is '/a'; it must be relative"),
        (HTTPS, "files = [{ path = '' }]", r"files\[0\] path: is ''; it must be relative"),
        (HTTPS, "files = [{ path = 'a', sha256 = 'AB' }]", r"files\[0\] sha256: is 'AB'; it must be of the form"),
        (HTTPS, f"{FILES}\nlicense = 'MIT'", "license: is not a key here; those are role, source, title, family, .*"),
        (HTTPS, f"{FILES}\ntitle = 1", "title: is 1; it must be a valid string"),
        (HTTPS, f"{FILES}\noptions = []", r"options: is \[\]; it must be a table"),
        (HTTPS, f"{FILES}\ndetector = 'rtmpose-s'", "detector: is 'rtmpose-s'; it must be one of blazepose-detector, "),
    ],
)
def test_entries_that_are_refused(own: Path, tmp_path: Path, source: str, more: str, message: str) -> None:
    own.write_text(estimator("a", source, more), encoding="utf-8")
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[models\.a\] {message}"):
        catalogue.load([own], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"coco-17"', '"coco"', "skeleton: is 'coco'; it must be one of ap10k-17, blazepose-33, coco-17, "),
        ('"estimator"', '"detector"', "skeleton: is not a key of a detector"),
        ("true", "1", "commercial: is 1; it must be a valid boolean"),
        ("width = 192", "width = 0", "input width: is 0; it must be greater than or equal to 1"),
        ("width = 192", "width = true", "input width: is True; it must be a valid integer"),
        ("width = 192,", "", "input width: is missing"),
        ("256", '256, order = "RGB"', "input order: is 'RGB'; it must be 'rgb' or 'bgr'"),
        ("256", "256, mean = [0, 0]", r"input mean\[2\]: is missing"),
        ("256", "256, std = [1, 0, 1]", r"input std\[1\]: is 0; it must be greater than 0"),
        ("256", "256, pad = 300", "input pad: is 300; it must be a whole number from 0 to 255"),
        ("256", "256, depth = 3", "input depth: is not a key here; those are height, width, order, mean, std, pad"),
    ],
)
def test_values_that_are_refused(own: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = estimator("a", HTTPS, FILES)
    assert old in text
    own.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[models\.a\] {message}"):
        catalogue.load([own], tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        catalogue.load([tmp_path / "none.toml"], tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(CatalogueError, match=r"latin\.toml: is not TOML"):
        catalogue.load([tmp_path / "latin.toml"], tmp_path)


@pytest.fixture
def unreachable() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f'{{ kind = "https", url = "http://127.0.0.1:{probe.getsockname()[1]}/b.onnx" }}'


def choose(own: Path, defaults: str, *entries: str, say: Callable[[str], None] | None = None) -> Choice:
    own.write_text("\n".join([f"defaults = {defaults}", *entries]), encoding="utf-8")
    return catalogue.load([own], own.parent / "cache").choose_default(say=say)


def test_a_cached_model_is_chosen_without_the_network(own: Path, unreachable: str) -> None:
    here = estimator("here", '{ kind = "file", path = "a.onnx" }')
    away = estimator("away", unreachable, 'files = [{ path = "b.onnx" }]')
    choice = choose(own, '["away", "here"]', away, here)
    assert choice.model.name == "here"
    assert choice.why == "here: already on this machine; `posewire models fetch NAME` gets a better one: away"
    assert choose(own, '["here", "away"]', away, here).why == "here: already on this machine"
    assert not (own.parent / "cache").exists()


def test_an_unreachable_model_is_skipped(own: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    away = estimator("away", unreachable, 'files = [{ path = "b.onnx" }]')
    wheel = '{ kind = "pypi", package = "a", version = "1", python = "3.11", platform = "any" }'
    near = estimator("near", wheel, 'files = [{ path = "a.onnx" }]')

    def download(source: PypiSource, work: Path, progress: object) -> Path:
        with ZipFile(work / "a.whl", "w") as archive:
            archive.writestr("a.onnx", b"a")
        return work / "a.whl"

    monkeypatch.setattr("engines.catalogue.fetch.pypi.download", download)
    lines = list[str]()
    choice = choose(own, '["away", "near"]', away, near, say=lines.append)
    assert choice.model.cached
    assert lines[1:] == ["near was fetched: a==1"]
    assert choice.why == (
        "near: away could not be fetched (127.0.0.1 could not be reached: Connection refused); "
        "run `posewire models fetch away` to try again"
    )


def test_each_rung_says_in_a_line_what_was_reached(
    own: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("INDEX_URL", "http://127.0.0.1:9/simple"), ("FIND_LINKS", ""), ("NO_INDEX", "0")):
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PATH", str(own.parent))
    away = estimator("away", unreachable, 'files = [{ path = "b.onnx" }]')
    package = estimator("package", '{ kind = "npm", package = "a", version = "1.0.0" }', FILES)
    wheels = [
        estimator(
            name, f'{{ kind = "pypi", package = "{name}", version = "1", python = "3", platform = "any" }}', FILES
        )
        for name in ("wheel", "other")
    ]
    lines = list[str]()
    defaults = '["away", "package", "wheel", "other"]'
    with pytest.raises(FetchError, match=r"there is no default model \(away: .*; package: npm is not installed, "):
        choose(own, defaults, away, package, *wheels, say=lines.append)
    assert [re.sub(r"reached: .*", "reached: WHY", line) for line in lines] == [
        "away could not be fetched: 127.0.0.1 could not be reached: WHY",
        "package could not be fetched: npm is not installed, and a@1.0.0 comes through it",
        "wheel could not be fetched: the package index could not be reached: WHY",
        "other could not be fetched: the package index could not be reached",  # it was not asked again
    ]
    here = estimator("here", '{ kind = "file", path = "a.onnx" }')
    lines.clear()
    assert choose(own, '["away", "here"]', away, here, say=lines.append).model.name == "here"
    assert lines == []


def test_a_model_is_available_only_with_its_detector(own: Path, unreachable: str) -> None:
    detector = estimator("finder", unreachable, 'files = [{ path = "b.onnx" }]').replace("estimator", "detector")
    detector = detector.replace('skeleton = "coco-17"', "")
    pose = estimator("pose", '{ kind = "file", path = "a.onnx" }', 'detector = "finder"')
    with pytest.raises(FetchError, match=r"there is no default model \(pose: 127.*\); check the network"):
        choose(own, '["pose"]', pose, detector)


def test_no_default_without_a_licence_for_commercial_use(own: Path) -> None:
    entry = estimator("here", '{ kind = "file", path = "a.onnx" }').replace("commercial = true", "")
    with pytest.raises(FetchError, match="there is no default model"):
        choose(own, '["here"]', entry)


@needs_shared
def test_a_folder_of_real_models(tmp_path: Path) -> None:
    own = tmp_path / "weights.toml"
    folder = f'{{ kind = "file", path = "{os.path.relpath(WEIGHTS, tmp_path)}" }}'
    network = 'files = [{ path = "tinypose_256x192/model.xml" }, { path = "tinypose_256x192/model.bin" }]'
    own.write_text(estimator("tinypose", folder, network), "utf-8")
    model = catalogue.load([own], tmp_path / "cache")["tinypose"]
    assert model.cached
    assert model.fetch().samefile(WEIGHTS / "tinypose_256x192" / "model.xml")


_MINE = """[models.mine]
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
source = { kind = "file", path = "PATH" }
input = { width = 64, height = 64 }
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_accepted(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.toml").write_bytes(_MINE.encode(encoding))
    assert "mine" in catalogue.load([tmp_path / "mine.toml"], tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_MINE.replace("PATH", "~nobody-of-this-name/a"), "source path: is '~nobody-of-this-name/a'; there is no such"),
        (_MINE.replace("PATH", "a\\u0000"), "source path: is "),
        ("x = " + "[" * 5000, "is not a catalogue (its lists or tables are nested too deep)"),
        ("a = 1\nb = ", "is not TOML (see "),
        (b"a = '\xff'", "is not TOML (it is not UTF-8 from byte 5 on)"),
    ],
)
def test_errors_of_odd_catalogues_are_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    (tmp_path / "mine.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CatalogueError) as caught:
        catalogue.load([tmp_path / "mine.toml"], tmp_path)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_a_path_that_is_not_a_file_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        catalogue.load([Path(path)], tmp_path)


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "POSEWIRE_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    with pytest.raises(CatalogueError, match="no home folder for models; name one in POSEWIRE_MODELS"):
        catalogue.load([])
    monkeypatch.setenv("POSEWIRE_MODELS", "~nobody-of-this-name")
    with pytest.raises(CatalogueError, match="POSEWIRE_MODELS names '~nobody-of-this-name'"):
        catalogue.load([])
