"""The choice of the default model: the best one that is cached, or else that can be fetched."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from engines.catalogue import Choice, FetchError, choose_default
from engines.catalogue import models as catalogue
from engines.catalogue.fetch.sources import PypiSource
from tests.engines.catalogue.entries import estimator

FILES = 'files = [{ path = "a" }]'


@pytest.fixture
def unreachable() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f'{{ kind = "https", url = "http://127.0.0.1:{probe.getsockname()[1]}/b.onnx" }}'


def choose(own: Path, defaults: str, *entries: str, say: Callable[[str], None] | None = None) -> Choice:
    own.write_text("\n".join([f"defaults = {defaults}", *entries]), encoding="utf-8")
    return choose_default(catalogue.load([own], own.parent / "cache"), say=say)


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


def test_each_attempt_says_in_a_line_what_was_reached(
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
