"""Output is written, or the command fails with an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a device of Linux that is always full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    tiny_catalogue(folder)
    for name in (b"k\xff.jpg", b"a\nb.jpg", "²".encode() + b".jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encoded(photo(160, 120)))
    return folder


def posewire(folder: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell in which `posewire` is the command."""
    script = f'posewire() {{ {sys.executable} -m service "$@"; }}; {command}'
    variables = {**os.environ, "POSEWIRE_CATALOGUE": str(folder / "tiny.toml")}
    return subprocess.run(["bash", "-c", script.encode()], cwd=folder, env=variables, capture_output=True, check=False)


@needs_full
@pytest.mark.parametrize("command", ["key", "--help", "models", "image --model tiny ².jpg"])
def test_a_full_disk_is_one_line_and_an_error(folder: Path, command: str) -> None:
    done = posewire(folder, f"posewire {command} > /dev/full")
    assert (done.returncode, done.stderr.decode()) == (
        1,
        "Error: cannot write the output: No space left on device\n",
    )


def test_a_closed_output_is_one_line_and_an_error(folder: Path) -> None:
    done = posewire(folder, "posewire key >&-")
    assert (done.returncode, done.stderr.decode()) == (1, "Error: cannot write the output: the output is closed\n")


@pytest.mark.parametrize("command", ["--help", "models"])
def test_a_closed_pipe_is_no_traceback(folder: Path, command: str) -> None:
    done = posewire(folder, f"posewire {command} | head -n 1")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, b"")


def test_results_are_utf_8_also_for_names_that_are_not(folder: Path) -> None:
    done = posewire(folder, "PYTHONIOENCODING=ascii posewire image --model tiny --format csv --min-score 0 *.jpg")
    assert (done.returncode, done.stderr) == (0, b"")
    names = {line.split(",")[0] for line in done.stdout.decode().splitlines()[1:]}
    assert names == {"k\\xff.jpg", "a\\x0ab.jpg", "².jpg"}


def test_a_pipe_without_a_writer_does_not_block(folder: Path) -> None:
    done = posewire(folder, "mkfifo pipe.jpg; posewire image --model tiny --format coco pipe.jpg ².jpg")
    assert done.returncode == 1
    assert done.stderr.decode().startswith("Error: pipe.jpg: there is no image: the body is empty")
    assert b'"image_id":1,' in done.stdout, "the number of an image does not depend on the others"
