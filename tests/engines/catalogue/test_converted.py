"""tfjs models in a catalogue: converted once, and again after a change of anything that the graph depends on."""

from __future__ import annotations

import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import pytest

from engines.catalogue import CatalogueError, FetchError, Model, converted, load
from engines.catalogue.tfjs import Cut, convert
from tests.engines.catalogue.fetch.conftest import publisher as publisher
from tests.engines.catalogue.fetch.publisher import Publisher
from tests.tfjs import save_graph_model, small_graph, small_heads

CUT = 'convert = { input = "half", shape = [-1, 4, 6, 3], outputs = { out = "heads" } }'
SOURCE = '{ kind = "file", path = "tfjs/model.json" }'


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for a catalogue, with a tfjs model in tfjs/."""
    folder = tmp_path / "own"
    (folder / "tfjs").mkdir(parents=True)
    save_graph_model(folder / "tfjs", *small_graph(), shards=2)
    return folder


def named(own: Path, source: str = SOURCE, *more: str) -> Model:
    """The model of a catalogue with this entry."""
    lines = ["[models.mine]", 'role = "detector"', 'family = "centre"', f"source = {source}"]
    (own / "own.toml").write_text("\n".join([*lines, "input = { width = 6, height = 4 }", *more]), "utf-8")
    return load([own / "own.toml"], own.parent / "cache")["mine"]


def run(graph: Path, image: np.ndarray) -> np.ndarray:
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled([image])[0])


def test_a_users_tfjs_model_is_converted_and_runs(own: Path) -> None:
    images = np.random.default_rng(1).integers(0, 255, (2, 4, 6, 3)).astype(np.float32)
    whole, cut = named(own), named(own, SOURCE, CUT)
    assert whole.cached
    assert whole.paths == (own / "tfjs" / "model.json",)
    heads = small_heads(images[:1] / 2)
    ended = heads.repeat(2, axis=1).repeat(2, axis=2).reshape(1, -1, 4).max(axis=1)
    np.testing.assert_allclose(run(whole.fetch(), images[:1].astype(np.int32)), ended, atol=1e-5)
    np.testing.assert_allclose(run(cut.fetch(), images / 2), small_heads(images / 2), atol=1e-5)
    assert whole.fetch() != cut.fetch()
    assert {path.suffix for path in (whole.fetch(), cut.fetch())} == {".pb"}


def test_a_graph_is_converted_once_and_again_where_it_is_damaged(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = named(own).fetch()
    content = graph.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(converted, "convert", None)
        assert named(own).fetch() == graph
    graph.write_bytes(content[:-1])
    assert named(own).fetch() == graph
    assert graph.read_bytes() == content
    shutil.rmtree(graph.parents[1])
    assert named(own).cached  # nothing has to be fetched
    assert named(own).fetch().read_bytes() == content
    assert sorted(item.name for item in graph.parent.iterdir()) == [".lock", "model.pb", "model.pb.lock.json"]


def test_a_change_leads_to_another_graph(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [
        named(own).fetch(),
        named(own, SOURCE, CUT).fetch(),
        named(own, SOURCE, CUT.replace("out =", "o =")).fetch(),
    ]
    nodes, weights = small_graph()
    save_graph_model(own / "tfjs", nodes, weights | {"bias": weights["bias"] + 1}, shards=2)
    graphs.append(named(own).fetch())
    monkeypatch.setattr(converted, "VERSION", 0)
    graphs.append(named(own).fetch())
    assert len(set(graphs)) == 5


def test_processes_that_start_at_once_convert_it_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, together = list[Path](), threading.Barrier(2, timeout=60)

    def counted(topology: Path, cut: Cut | None) -> bytes:
        calls.append(topology)
        return convert(topology, cut)

    def fetch(model: Model) -> Path:
        together.wait()
        return model.fetch()

    monkeypatch.setattr(converted, "convert", counted)
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(fetch, [named(own)] * 2))) == 1
    assert len(calls) == 1


def test_a_fetched_tfjs_model_is_converted(own: Path, publisher: Publisher) -> None:
    for path in (own / "tfjs").iterdir():
        publisher.contents[f"/hand/{path.name}"] = path.read_bytes()
    digest = hashlib.sha256((own / "tfjs" / "model.json").read_bytes()).hexdigest()
    source = f'{{ kind = "https", url = "{publisher.url("hand/")}" }}'
    files = [f'{{ path = "group1-shard{n}of2.bin" }}' for n in (1, 2)]
    model = named(own, source, f'files = [{{ path = "model.json", sha256 = "{digest}" }}, {", ".join(files)}]')
    assert not model.cached
    assert model.fetch().read_bytes() == convert(own / "tfjs" / "model.json")
    assert model.cached
    assert model.fetch().is_relative_to(model.cache / "converted")
    assert len(publisher.asked) == 3


def test_what_cannot_be_converted_says_why(own: Path) -> None:
    with pytest.raises(FetchError, match=r"model\.json cannot be converted: .*nowhere.*; see `files` and `convert`"):
        named(own, SOURCE, CUT.replace('"heads"', '"nowhere"')).fetch()
    (own / "tfjs" / "group1-shard2of2.bin").unlink()
    with pytest.raises(FetchError, match=r"cannot be converted: model\.json needs its weights group1-shard1of2\.bin"):
        named(own).fetch()
    (own / "tfjs" / "model.json").write_text("[" * 100_000, "utf-8")
    with pytest.raises(FetchError, match=r"cannot be converted: model\.json is no tfjs GraphModel"):
        named(own).fetch()
    assert not list((own.parent / "cache").rglob("model.pb*"))


def test_a_cache_that_cannot_be_written_is_named(own: Path) -> None:
    (own.parent / "cache").write_text("a file", "utf-8")
    with pytest.raises(FetchError, match=r"the model cache .*/cache cannot be used"):
        named(own).fetch()


@pytest.mark.parametrize(
    ("source", "table", "message"),
    [
        ('{ kind = "file", path = "a.onnx" }', CUT, "convert: is a key of tfjs models, whose first file is a .json"),
        (SOURCE, "convert = 1", "convert: is 1; it must be a table"),
        (SOURCE, "convert = { inputs = 'x' }", "convert inputs: is not a key here; those are "),
        (SOURCE, "convert = { input = 'x' }", "convert input: needs a shape"),
        (SOURCE, "convert = { input = 'x', shape = [0] }", "convert shape: is .*; its sides must be whole numbers"),
    ],
)
def test_tables_that_are_refused(own: Path, source: str, table: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[models\.mine\] {message}"):
        named(own, source, table)


def test_the_version_of_the_converter_stands_for_what_it_writes(tmp_path: Path) -> None:
    """If this fails because the converter writes something else than before, raise VERSION and change both here."""
    written = hashlib.sha256(convert(save_graph_model(tmp_path, *small_graph()))).hexdigest()
    assert (converted.VERSION, written[:12]) == (1, "ee841b58211e")
