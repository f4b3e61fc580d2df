"""What `posewire batch` refuses before it starts to work."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.main import main
from tests.graphs import save_keypoint_graph, tiny_catalogue
from tests.pictures import encoded, photo
from tests.service.offline.bulk.runs import batch, needs_ray

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, a catalogue, and the source's results in `results`."""
    folder = tmp_path_factory.mktemp("refusals")
    tiny_catalogue(folder)
    (folder / "source").mkdir()
    (folder / "source/a.jpg").write_bytes(encoded(photo(160, 120)))
    code, said = batch(folder / "tiny.toml", folder / "source", folder / "results", "--workers", 1)
    assert code == 0, said
    return folder


@pytest.fixture
def refused(done: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run the command in `done` and return its one line of output."""
    monkeypatch.chdir(done)
    monkeypatch.setenv("POSEWIRE_CATALOGUE", "tiny.toml")

    def run(*arguments: object, model: str = "pair", code: int = 1) -> str:
        command = ["batch", *map(str, arguments), "--model", model, "--min-score", "0"]
        ended = CliRunner().invoke(main, command)
        assert ended.exit_code == code, ended.stderr
        return ended.stderr.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("arguments", "model", "says"),
    [
        (("--max-people", 3), "pair", "(options max-people was 50, now it is 3)"),
        (("--format", "csv"), "pair", "(options format was json, now it is csv)"),
        (("--shard", 10), "pair", "(options shard was 64, now it is 10)"),
        ((), "tiny", "(model name was pair, now it is tiny)"),
    ],
)
def test_other_options_or_another_model_need_another_folder(
    refused: Refused, arguments: tuple[object, ...], model: str, says: str
) -> None:
    line = refused("source", "results", *arguments, model=model)
    assert line.startswith("Error: results holds results of another batch ")
    assert says in line
    assert line.endswith("; name a new folder, or run it as before")


def test_an_additional_file_is_another_batch(refused: Refused, done: Path) -> None:
    more = done / "source/b.jpg"
    more.write_bytes(encoded(photo(160, 120)))
    assert "(source images was 1, now it is 2)" in refused("source", "results")
    more.unlink()


def test_a_changed_file_is_another_batch(refused: Refused, done: Path) -> None:
    before = (done / "source/a.jpg").stat()
    os.utime(done / "source/a.jpg", (1, 1))
    assert "(files of the source have another name, size or time now)" in refused("source", "results")
    os.utime(done / "source/a.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))


def test_other_weights_of_a_model_are_another_batch(refused: Refused, done: Path) -> None:
    kept = {name: (done / name).read_bytes() for name in ("tiny.xml", "tiny.bin")}
    save_keypoint_graph(done / "tiny.xml", channels=4)
    assert "(model sha256 pair was " in refused("source", "results")
    for name, data in kept.items():
        (done / name).write_bytes(data)


def test_networks_that_would_run_differently_end_the_batch(refused: Refused, done: Path) -> None:
    networks = done / "results/networks.json"
    before = networks.read_text("utf-8")
    networks.write_text(before.replace("OpenVinoRuntime", "TensorRtRuntime"), "utf-8")
    (done / "results/parts/images-00000.done").rename(done / "kept")
    line = refused("source", "results", "--workers", 1)
    assert "has results of networks run as {'pair-detector': ['TensorRtRuntime', " in line
    assert line.endswith("; set backend and precision, or name a new folder")
    networks.write_text(before, "utf-8")
    (done / "kept").rename(done / "results/parts/images-00000.done")


def test_a_folder_with_other_files_is_not_changed(refused: Refused, done: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    assert refused("source", tmp_path).endswith(
        "has files in it that are no results of posewire batch; name a new folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_manifest_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"source": ', "utf-8")
    assert "manifest.json is damaged" in refused("source", tmp_path)


def test_two_runs_cannot_share_a_folder(refused: Refused, done: Path) -> None:
    with (done / "results/.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refused("source", "results").endswith("results is in use: another posewire batch works on it")


@pytest.mark.parametrize(
    ("arguments", "model", "code", "says"),
    [
        (("nowhere", "out"), "pair", 2, "'nowhere' does not exist"),
        (("source", "tiny.toml"), "pair", 2, "'tiny.toml' is a file"),
        (("source", "out"), "nobody", 1, "no model is called 'nobody'"),
        (("source/a.jpg", "out"), "pair", 1, "use posewire image"),
        (("source", "out", "--shard", 0), "pair", 2, "0 is not in the range"),
    ],
)
def test_user_errors_are_one_clear_line(
    refused: Refused, done: Path, arguments: tuple[object, ...], model: str, code: int, says: str
) -> None:
    assert says in refused(*arguments, model=model, code=code)
    assert not (done / "out").exists()


def test_an_unwritable_folder_is_one_clear_line(refused: Refused, done: Path) -> None:
    assert refused("source", "/proc/nowhere").startswith("Error: cannot write /proc/nowhere")


def test_the_manifest_identifies_the_batch(done: Path) -> None:
    said = json.loads((done / "results/manifest.json").read_text("utf-8"))
    assert said["source"]["kind"] == "folder"
    assert (said["source"]["images"], said["source"]["videos"]) == (1, 0)
    assert said["model"]["name"] == "pair"
    assert set(said["model"]["sha256"]) == {"pair", "pair-detector"}
    assert said["options"]["min-score"] == 0


@needs_ray
def test_a_missing_ray_cluster_is_one_clear_line(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    line = refused("source", tmp_path / "out", "--ray")
    assert line.startswith("Error: there is no Ray cluster at 127.0.0.1:9, which RAY_ADDRESS names: ")
