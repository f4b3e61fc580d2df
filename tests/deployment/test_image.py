"""The image: built from docker/Dockerfile by buildah, which needs no daemon, and run as an engine would, offline.

That takes minutes and downloads every dependency, so only CI does it. No image registry is used: a minimal Debian with
its own Python, of the same releases, stands in for the official Python image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deployment.programs import needs
from tests.deployment.test_compose import DOCKERFILE, ROOT

pytestmark = [
    pytest.mark.skipif("CI" not in os.environ, reason="takes minutes; CI=true runs it"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    needs("buildah", "buildah"),
    needs("mmdebstrap", "mmdebstrap"),
    needs("ip", "iproute2"),
]

_BASE_MB = 131
"""The size of python:3.11-slim-bookworm in Docker; the stand-in is larger."""
_PYTHON = "python3,python3-venv,python3-pip,ca-certificates"
_PREPARE = "ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED"


@dataclass(frozen=True)
class Builder:
    """buildah with its images in a separate folder."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        store = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        command = ["buildah", *store, "--storage-driver", "overlay", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    def mount(self, image: str) -> Path:
        """Mount a container of an image, and return its root."""
        return Path(self("mount", self("from", "--pull-never", image)))


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs to be allowed to mount")
    folder = tmp_path_factory.mktemp("images")
    built = Builder(folder)
    try:
        yield built
    finally:
        built("rm", "--all")
        built("rmi", "--all", "--force")
        subprocess.run(["umount", folder / "root" / "overlay"], check=False)  # the storage driver's own
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def base(builder: Builder) -> str:
    """Make the base image of the Dockerfile, and return its name."""
    [tag] = re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    archive = builder.folder / "base.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PYTHON}", "bookworm", str(archive)]
    subprocess.run(command, check=True)
    name = f"docker.io/library/python:{tag}"
    container = builder("from", "scratch")
    builder("add", "--quiet", container, str(archive), "/")
    builder("run", "--isolation", "chroot", container, "--", "sh", "-c", _PREPARE)
    builder("commit", "--quiet", container, name)
    return name


@pytest.fixture(scope="module")
def image(builder: Builder, base: str) -> Path:
    """The root of the image of the target cpu."""
    pip = ["--volume=/etc/pip.conf:/etc/pip.conf:ro"] if Path("/etc/pip.conf").exists() else []
    certificates = "--volume=/etc/ssl/certs:/etc/ssl/certs:ro"
    # fmt: off
    builder(
        "bud", "--isolation", "chroot", "--pull-never", "--format", "docker", certificates, *pip,
        "--file", "docker/Dockerfile", "--target", "cpu", "--tag", "posewire:cpu", ".",
    )
    # fmt: on
    return builder.mount("posewire:cpu")


def test_it_is_under_725_mb(builder: Builder, base: str, image: Path) -> None:
    ours = megabytes(image) - megabytes(builder.mount(base))
    assert ours + _BASE_MB < 725, ours + _BASE_MB


def test_it_starts_offline_with_a_read_only_root_and_ends_gracefully(image: Path, tmp_path: Path) -> None:
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    models = shutil.copytree(image / "models", tmp_path / "models")  # as an engine initialises a new volume
    subprocess.run(["chown", "-R", user, models], check=True)
    script = Path(__file__).with_name("image.sh")
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*namespaces, script, image, models, user, ROOT / ".assets" / "astronaut.jpg"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    answer, status = done.stdout.splitlines()
    best, *_ = json.loads(answer)["people"]
    assert best["score"] > 0.15  # MoveNet MultiPose's, the model of an image that was built where npm is not reached
    assert int(status) == 0


def test_it_contains_a_bill_of_materials_with_licences(image: Path) -> None:
    document = json.loads((image / "opt" / "posewire" / "sbom.json").read_text("utf-8"))
    components = {component["name"]: component for component in document["components"]}
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / ".lock" / "run.txt").read_text("utf-8"), re.MULTILINE)
    installed = {(name, component["version"]) for name, component in components.items()}
    assert installed <= {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in locked}
    assert all(component["licenses"] for component in components.values())
    bundled = {file.parent.name for file in image.glob("opt/posewire/lib/python*/site-packages/*.libs/*.so*")}
    for folder in bundled:
        assert components[re.sub(r"[-_.]+", "-", folder.removesuffix(".libs")).lower()]["components"]


def test_only_needed_files_are_in_the_build_context(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n", "utf-8")
    builder("bud", "--isolation", "chroot", "--file", str(tmp_path / "Dockerfile"), "--tag", "context", ".")
    root = builder.mount("context")
    assert {path.name for path in root.iterdir()} == {
        ".lock",
        "LICENSE",
        "README.md",
        "docker",
        "engines",
        "pyproject.toml",
        "service",
    }
    assert [str(path.relative_to(root)) for path in (root / "docker").rglob("*")] == ["docker/sbom.py"]


def test_it_has_no_tools_to_install_or_compile(image: Path) -> None:
    assert not list(image.glob("opt/posewire/lib/python*/site-packages/pip"))
    assert not any((image / "usr" / "bin" / name).exists() for name in ("gcc", "cc", "make", "git", "curl"))


def megabytes(folder: Path) -> float:
    """Return the size of the files below in megabytes."""
    done = subprocess.run(["du", "--summarize", "--bytes", folder], capture_output=True, encoding="utf-8", check=True)
    return int(done.stdout.split()[0]) / 1e6
