"""The rooms of the two packages: which may import which, which third-party packages each may use, and class names."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engines", "service")

FLOW = (
    # engines: data, then pixels and arrays, then models, then what runs them
    *("engines", "engines.files", "engines.locks", "engines.control_groups", "engines.cores"),
    *("engines.skeletons", "engines.poses", "engines.inputs", "engines.ops"),
    *("engines.catalogue", "engines.families", "engines.networks"),
    *("engines.plans", "engines.runtimes", "engines.crops", "engines.build"),
    # service: libraries that stand alone, then a frame's way through the server, then the server itself
    *("service", "service.client", "service.camera_hosts", "service.config", "service.batching", "service.quota"),
    "service.redis_errors",
    *("service.tracking", "service.rules", "service.media", "service.formats", "service.evaluation"),
    *("service.process", "service.events", "service.inference", "service.tracking_workers", "service.streams"),
    *("service.observability", "service.cameras", "service.offline", "service.watching", "service.load"),
    *("service.api", "service.server"),
    *("service.cli", "service.__main__"),
)
"""Every folder and file directly inside a package. A room may only import rooms before it."""

ALLOWED = {
    # decoding of pixels, networks, databases and the server's interfaces
    "av": ("service/cameras/", "service/media/", "service/client/video.py"),
    "click": ("service/cli/", "service/server.py"),
    "fastapi": ("service/api/",),
    "PIL": ("service/load/chart.py", "service/media/"),
    "ray": ("service/offline/bulk/ray_pool.py",),
    "sqlite3": ("service/offline/jobs/store.py", "service/events/journal", "service/cli/events.py"),
    "paho": ("service/events/sinks/mqtt/",),
    "redis": (
        *("service/streams/store/redis", "service/offline/jobs/shared_list.py"),
        *("service/cameras/ownership/redis", "service/events/sinks/redis", "service/redis_errors.py"),
    ),
    "uvicorn": ("service/api/", "service/process/", "service/server.py"),
    "websockets": ("service/api/websocket.py", "service/client/"),
    "httpx": (
        *("engines/catalogue/fetch/https.py", "service/cameras/sources/web.py", "service/client/"),
        "service/events/sinks/webhook.py",
    ),
    # computing
    "openvino": ("engines/runtimes/openvino/", "engines/build/"),
    "onnxruntime": ("engines/runtimes/onnxruntime/",),
    "torch": ("engines/networks/", "engines/crops/", "engines/runtimes/", "engines/build/"),
    "onnx": ("engines/runtimes/onnxruntime/", "engines/build/"),
    "onnxscript": ("engines/build/", "service/cli/build_int8.py"),
    "cuda": ("engines/runtimes/tensorrt/", "engines/runtimes/nvml.py", "engines/plans/gpu.py"),
    "asyncio": ("service/",),
    "service": ("service/",),
}
"""The beginnings of the paths that may import each package."""

NEEDS = {
    "service/client/": ("service.client",),
    "service/tracking/": ("service.tracking", "engines"),
    "service/rules/": ("service.rules", "service.tracking", "engines"),
    "service/formats/": ("service.formats", "engines"),
    "service/evaluation/": ("service.evaluation", "service.formats", "engines"),
    "service/media/": ("service.media", "service.tracking", "engines"),
    "service/batching/": ("service.batching",),
    "engines/ops/": ("engines.ops", "engines.poses", "engines.inputs"),
    "engines/families/": (
        *("engines.families", "engines.ops", "engines.poses", "engines.skeletons", "engines.inputs"),
        "engines.catalogue",
    ),
}
"""Rooms that can be used on their own, and all modules of this project that they need."""


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax tree of every file of the packages, by path."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


@cache
def imports() -> tuple[tuple[str, str], ...]:
    """Every file with every module that it imports, also inside functions and for type checking."""
    return tuple((path, module) for path, tree in sources().items() for module in _imported(path, tree))


def _imported(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The client is also installed as a package of another name, so only its imports of itself are relative.
            client = path.startswith("service/client/")
            ours = node.level == 1 or within(str(node.module), PACKAGES)
            assert node.level == (client and ours), f"{path}: imports are {'relative' if client else 'absolute'}"
            module = f"service.client.{node.module}" if node.level else node.module
            yield from (f"{module}.{name.name}" for name in node.names)


@cache
def existing_rooms() -> set[str]:
    """Every folder and file directly inside a package, and the packages themselves."""
    rooms = set(PACKAGES)
    for path in sources():
        package, name = path.split("/")[:2]
        if name != "__init__.py":
            rooms.add(f"{package}.{name.removesuffix('.py')}")
    return rooms


def room_of(module: str) -> str:
    """The room of a module, or of a name in it: the package itself for names in its `__init__.py`."""
    room = ".".join(module.split(".")[:2])
    return room if room in existing_rooms() else module.split(".")[0]


@cache
def room_imports() -> dict[tuple[str, str], list[str]]:
    """The imports (from, to) between rooms, each with the files that have it."""
    found = defaultdict(list)
    for path, module in imports():
        if within(module, PACKAGES):
            importer = room_of(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
            imported = room_of(module)
            if importer != imported:
                found[importer, imported].append(f"{path} imports {module}")
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    """True if a module is one of the packages or inside one."""
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def test_every_room_has_a_place_in_the_flow() -> None:
    assert len(set(FLOW)) == len(FLOW)
    assert existing_rooms() - set(FLOW) == set()
    assert set(FLOW) - existing_rooms() == set()


def test_rooms_import_only_rooms_before_them() -> None:
    place = {room: n for n, room in enumerate(FLOW)}
    against = {edge: files for edge, files in room_imports().items() if place[edge[0]] < place[edge[1]]}
    assert against == {}


def test_rooms_do_not_import_each_other() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for importer, imported in room_imports():
        graph[importer].add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]
        pytest.fail(f"a cycle: {' <- '.join(cycle)}")


def test_a_public_class_name_is_defined_once() -> None:
    found = defaultdict(list)
    for path, tree in sources().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path)
    twice = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert twice == {}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_is_imported_only_where_it_is_allowed(package: str) -> None:
    users = {path for path, module in imports() if within(module, (package,))}
    assert users
    assert [path for path in sorted(users) if not path.startswith(ALLOWED[package])] == []
    assert all(any(path.startswith(place) for path in users) for place in ALLOWED[package])


@pytest.mark.parametrize("room", NEEDS)
def test_a_room_imports_only_the_modules_that_it_needs(room: str) -> None:
    ours = {(path, m) for path, m in imports() if path.startswith(room) and within(m, PACKAGES)}
    assert ours
    assert [(path, module) for path, module in sorted(ours) if not within(module, NEEDS[room])] == []
