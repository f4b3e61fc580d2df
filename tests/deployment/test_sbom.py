"""The bill of materials that docker/sbom.py prints, for the environment that runs the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.test_compose import DOCKERFILE, ROOT

Document = dict[str, Any]

_COPYLEFT = re.compile(r"\b(AGPL|GPL|LGPL|MPL|SSPL)-[\w.-]+")


@pytest.fixture(scope="module")
def document() -> Document:
    made: Document = json.loads(write().stdout)
    return made


def test_every_distribution_is_listed_with_a_licence(document: Document) -> None:
    components = {component["name"]: component for component in document["components"]}
    installed = distributions(path=[sysconfig.get_path("purelib")])  # a test of Ray adds what Ray bundles to sys.path
    expected = {re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower() for found in installed}
    assert {*components, document["metadata"]["component"]["name"]} == expected
    for component in components.values():
        assert component["licenses"]
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}".replace("+", "%2B")


def test_bundled_libraries_are_listed_with_their_own_licences(document: Document) -> None:
    parts = {
        (component["name"], part["name"]): part["licenses"][0].get("expression")
        for component in document["components"]
        for part in component.get("components", ())
        if part.get("licenses")
    }
    assert parts["av", "libx264"] == parts["av", "libx265"] == "GPL-2.0-or-later"
    assert parts["av", "libavcodec"] == "LGPL-3.0-or-later"
    assert parts["opencv-python-headless", "libavcodec"] == "LGPL-2.1-or-later"
    assert ("orjson", "once_cell") in parts  # a Rust crate, from the wheel's own document
    assert ("pillow", "libimagequant") not in parts  # named by the wheel's document, but not in this wheel
    bundled = sum(
        file.parts[0].endswith(".libs") and ".so" in file.name
        for found in distributions()
        for file in found.files or ()
    )
    assert sum(name.startswith("lib") for _, name in parts) >= bundled - 5  # two of one name and version are one part


def test_the_image_is_labelled_with_every_copyleft_licence_in_it(document: Document) -> None:
    [label] = re.findall(r'image\.licenses="([^"]*)"', DOCKERFILE.read_text("utf-8"))
    for name in (
        "av",
        "certifi",
        "opencv-python-headless",
        "orjson",
        "pillow",
    ):  # some of the packages that serving needs
        [component] = [component for component in document["components"] if component["name"] == name]
        for told in (component, *component.get("components", ())):
            for licence in told.get("licenses", ()):
                expression = licence.get("expression") or licence["license"].get("id", "")
                if " OR " in expression or " WITH " in expression:
                    continue  # there is a choice, or an exception for linking
                assert set(re.findall(_COPYLEFT.pattern.replace("(", "(?:", 1), expression)) <= set(label.split())


def test_a_library_with_an_unknown_licence_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "strange.libs").mkdir()
    (tmp_path / "strange.libs" / "libstrange-0123abcd.so.4").touch()
    folder = tmp_path / "strange-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: strange\nVersion: 1.0\nLicense-Expression: MIT\n", "utf-8"
    )
    (folder / "RECORD").write_text("strange.libs/libstrange-0123abcd.so.4,,\n", "utf-8")
    done = write(PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1
    assert "strange bundles libstrange-0123abcd.so.4, whose licence docker/sbom.py does not know" in done.stderr


def write(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [sys.executable, str(ROOT / "docker" / "sbom.py")]
    return subprocess.run(command, env=os.environ | environment, cwd="/", capture_output=True, encoding="utf-8")
