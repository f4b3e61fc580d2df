"""Which package may import what: where a rule has an exception, the exception stands here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    # who decodes pixels, speaks to a network or a database, or shows itself to the world
    "av": ("service/media/",),
    "click": ("service/cli/", "service/process/run.py"),
    "fastapi": ("service/api/",),
    "PIL": ("service/media/",),
    "ray": ("service/offline/bulk/ray_pool.py",),
    "redis": ("service/streams/store/redis",),
    "uvicorn": ("service/api/", "service/process/"),
    "websockets": ("service/api/websocket.py", "service/client/"),
    "httpx": ("engines/catalogue/fetch/https.py", "service/client/"),
    # what computes: torch's runtime reads its graphs with OpenVINO, which speaks all three formats
    "openvino": ("engines/runtimes/openvino/", "engines/runtimes/torch/", "engines/build/"),
    "torch": ("engines/networks/", "engines/crops/", "engines/runtimes/", "engines/build/"),
    "onnx": ("engines/build/",),
    "onnxscript": ("engines/build/", "service/cli/build_int8.py"),
    "cuda": ("engines/runtimes/tensorrt/", "engines/runtimes/nvml.py", "engines/plans/gpu.py"),
    "asyncio": ("service/",),
    "service": ("service/",),
}
"""By package: the beginnings of the paths that may import it."""

NEEDS = {
    "service/client/": ("service.client",),
    "service/tracking/": ("service.tracking", "engines"),
    "service/formats/": ("service.formats", "engines"),
    "service/evaluation/": ("service.evaluation", "service.formats", "engines"),
    "service/media/": ("service.media", "service.tracking", "engines"),
    "service/batching/": ("service.batching",),
    "engines/ops/": ("engines.ops", "engines.poses", "engines.runtimes.base"),
    "engines/families/": (
        *("engines.families", "engines.ops", "engines.poses", "engines.skeletons", "engines.runtimes.base"),
        "engines.catalogue",
    ),
}
"""What can be used by itself, and all that it needs of ours."""


@cache
def imports() -> tuple[tuple[str, str], ...]:
    """Every file of ours, and every module that it imports anywhere."""
    paths = [path for package in ("engines", "service") for path in sorted((ROOT / package).rglob("*.py"))]
    return tuple((path.relative_to(ROOT).as_posix(), module) for path in paths for module in _imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of these, or inside of one."""
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_is_imported_where_it_belongs_and_nowhere_else(package: str) -> None:
    users = {path for path, module in imports() if within(module, (package,))}
    assert users
    assert [path for path in sorted(users) if not path.startswith(ALLOWED[package])] == []
    assert all(any(path.startswith(place) for path in users) for place in ALLOWED[package])


@pytest.mark.parametrize("room", NEEDS)
def test_a_room_needs_no_more_of_the_house_than_it_says(room: str) -> None:
    ours = {(path, m) for path, m in imports() if path.startswith(room) and within(m, ("engines", "service"))}
    assert ours
    assert [(path, module) for path, module in sorted(ours) if not within(module, NEEDS[room])] == []
