"""Which families fit a graph, judged by the names and shapes of its outputs: for models that users bring.

A fit says what a catalogue entry needs. What shapes cannot tell is in its `doubts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from engines.inputs import GraphPorts, PixelInput, Port

_IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_MOST_ROWS = 1000  # of a graph that suppresses duplicates; others have thousands
_MOST_KEYPOINTS = 500
_PEOPLE = "people have the label {label} (`person`)"


@dataclass(frozen=True, slots=True)
class Fit:
    """A family that can read a graph. keypoints: how many, None for a detector. pixels: the usual input of the family.

    options: those that differ from the family's defaults. doubts: what is assumed, as clauses.
    """

    family: str
    role: str
    keypoints: int | None
    pixels: PixelInput
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    doubts: tuple[str, ...] = ()


class _Found(NamedTuple):
    """What a family's rule finds in a graph."""

    keypoints: int | None
    options: Mapping[str, object] = MappingProxyType({})
    doubts: tuple[str, ...] = ()


class _Rule(NamedTuple):
    """takes: the outputs that a family reads. pixels: its usual input. find: None if the graph does not give them."""

    family: str
    role: str
    takes: str
    find: Callable[[GraphPorts], _Found | None]
    pixels: Mapping[str, object]


def fits(graph: GraphPorts) -> list[Fit]:
    """The families that fit, likelier ones first."""
    found = []
    bytes_in = graph.image.dtype.kind in "iu"  # such a graph normalises them itself

    def usual(pixels: Mapping[str, object]) -> dict[str, object]:
        return {key: value for key, value in pixels.items() if not (bytes_in and key in ("mean", "std"))}

    for rule in _RULES:
        shapes = rule.find(graph)
        if shapes is not None and (shapes.keypoints is None or shapes.keypoints > 0):
            pixels = PixelInput(graph.height, graph.width, **usual(rule.pixels))  # type: ignore[arg-type] # see _RULES
            found.append(Fit(rule.family, rule.role, shapes.keypoints, pixels, shapes.options, shapes.doubts))
    return found


def taken_outputs() -> Mapping[str, str]:
    """What each family takes, for people. A family that is not named here cannot be judged by shapes."""
    return {f"{rule.family} ({rule.role})": rule.takes for rule in _RULES}


def _named(graph: GraphPorts, *names: str) -> list[tuple[int, ...]] | None:
    """The shapes of the outputs with these names, or None if one is missing."""
    shapes = {port.name: port.shape for port in graph.outputs}
    return [shapes[name] for name in names] if all(name in shapes for name in names) else None


def _only(graph: GraphPorts, rank: int) -> tuple[int, ...] | None:
    """The shape of the only output, if it has this rank."""
    shapes = [port.shape for port in graph.outputs]
    return shapes[0] if len(shapes) == 1 and len(shapes[0]) == rank else None


def _cells(graph: GraphPorts) -> list[int]:
    """How many cells the usual grids of detectors have."""
    return [sum((graph.height // s) * (graph.width // s) for s in strides) for strides in _STRIDES]


def _keypoints(columns: int, others: int) -> int:
    """K of rows with `others` values and three for each keypoint; 0 if these are no such rows."""
    count, rest = divmod(columns - others, 3)
    return count if rest == 0 and 0 < count <= _MOST_KEYPOINTS else 0


def _split(graph: GraphPorts, x: Port, y: Port) -> float | None:
    """The bins per pixel of two SimCC outputs, or None if they are none."""
    (_, k, across), (_, other, down) = x.shape, y.shape
    split = across / graph.width
    return split if 0 < k == other and split >= 1 and down == split * graph.height else None


def _simcc(graph: GraphPorts) -> _Found | None:
    if len(graph.outputs) != 2 or any(len(port.shape) != 3 for port in graph.outputs):
        return None
    x, y = sorted(graph.outputs, key=lambda port: port.name != "simcc_x") if _named(graph, "simcc_x") else graph.outputs
    split = _split(graph, x, y)
    if split is None:
        return None
    options: dict[str, object] = {} if split == 2 else {"split": split}
    known = (x.name, y.name) == ("simcc_x", "simcc_y")
    square = graph.width == graph.height
    doubts = (
        (f"{x.name} is the output along x, and {y.name} the one along y (`names`)",) if square and not known else ()
    )
    return _Found(x.shape[1], options if known else options | {"names": [x.name, y.name]}, doubts)


def _simcc_3d(graph: GraphPorts) -> _Found | None:
    if len(graph.outputs) != 3 or any(len(port.shape) != 3 for port in graph.outputs):
        return None
    x, y, z = graph.outputs
    split = _split(graph, x, y)
    if split is None or z.shape[1] != x.shape[1] or z.shape[2] < 2:
        return None
    doubt = f"{z.name} is the depth, with the range of RTMW3D (`z_range`)"
    return _Found(x.shape[1], {} if split == 2 else {"split": split}, (doubt,))


def _heatmap(graph: GraphPorts) -> _Found | None:
    maps = [port for port in graph.outputs if len(port.shape) == 4]
    if len(maps) != 1:
        return None
    _, k, height, width = maps[0].shape
    if not (0 < height <= graph.height and width > 0 and graph.height / height == graph.width / width):
        return None
    doubts = (
        "the peaks of the heatmaps are in 0..1 (`scale`)",
        'it was not trained with unbiased data processing, as ViTPose is (`refinement = "udp"`)',
    )
    return _Found(k, {} if len(graph.outputs) == 1 else {"output": maps[0].name}, doubts)


def _associative_embedding(graph: GraphPorts) -> _Found | None:
    if len(graph.outputs) != 2 or any(len(port.shape) != 4 for port in graph.outputs):
        return None
    low, high = sorted(graph.outputs, key=lambda port: port.shape[2])
    if low.shape[1] != 2 * high.shape[1] or not 0 < low.shape[2] < high.shape[2]:
        return None
    return _Found(high.shape[1], _options(low="out_low", high="out_high", given=(low.name, high.name)))


def _part_affinity(graph: GraphPorts) -> _Found | None:
    ports = {port.shape[1]: port.name for port in graph.outputs if len(port.shape) == 4}
    heatmaps, fields = ports.get(19, ports.get(18)), ports.get(38)
    if heatmaps is None or fields is None:
        return None
    names = _options(heatmaps="Mconv7_stage2_L2", fields="Mconv7_stage2_L1", given=(heatmaps, fields))
    return _Found(17, names, ("its keypoints and limbs have the order of OpenPose's COCO model",))


def _personlab(graph: GraphPorts) -> _Found | None:
    ports = {port.shape[3]: port for port in graph.outputs if len(port.shape) == 4}
    if not {17, 34, 64} <= ports.keys():
        return None
    keys = {17: "heatmaps", 34: "short_offsets", 64: "mid_offsets"}
    quantised = any(ports[channels].dtype.kind != "f" for channels in keys)
    doubt = ("its integers need no scale (`quantised`)",) if quantised else ()
    return _Found(17, {key: ports[channels].name for channels, key in keys.items()}, doubt)


def _rtmdet(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "dets", "labels")
    return _Found(None) if shapes and shapes[0][2:] == (5,) and len(shapes[1]) == 2 else None


def _rtmo(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "dets", "keypoints")
    fit = shapes and shapes[0][2:] == (5,) and shapes[1][3:] == (3,)
    return _Found(shapes[1][2]) if shapes and fit else None


def _detrpose(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "scores", "labels", "keypoints")
    if shapes is None or shapes[2][3:] != (2,) or any(len(shape) != 2 for shape in shapes[:2]):
        return None
    return _Found(shapes[2][2], {}, (_PEOPLE.format(label=1), "keypoints are in pixels of the size that it is given"))


def _yolo_pose(graph: GraphPorts) -> _Found | None:
    shape = _only(graph, 3)
    if shape is None:
        return None
    _, rows, columns = shape
    if columns in _cells(graph) and (k := _keypoints(rows, 5)):
        return _Found(k)
    if rows in [3 * cells for cells in _cells(graph)] and (k := _keypoints(columns, 6)):
        return _Found(k, {"layout": "rows"})
    if rows <= _MOST_ROWS and rows not in _cells(graph) and (k := _keypoints(columns, 6)):
        return _Found(k, {"layout": "end-to-end"}, ("positions are in pixels, not in 0..1 (`relative`)",))
    return None


def _movenet(graph: GraphPorts) -> _Found | None:
    shape = _only(graph, 3)
    return _Found(17) if shape and shape[1:] == (6, 56) else None


def _movenet_single(graph: GraphPorts) -> _Found | None:
    shape = _only(graph, 4)
    return _Found(17) if shape and shape[1:] == (1, 17, 3) else None


def _movenet_heads(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "centres", "keypoints", "guesses", "offsets")
    return _Found(17) if shapes and [shape[3:] for shape in shapes] == [(1,), (17,), (34,), (34,)] else None


def _movenet_heads_and_boxes(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "box_sizes", "box_offsets")
    return _movenet_heads(graph) if shapes and [shape[3:] for shape in shapes] == [(2,), (2,)] else None


def _yolox(graph: GraphPorts) -> _Found | None:
    shape = _only(graph, 3)
    return (
        _Found(None, {}, (_PEOPLE.format(label=0),))
        if shape and shape[1] == _cells(graph)[0] and shape[2] > 5
        else None
    )


def _nanodet(graph: GraphPorts) -> _Found | None:
    grids = [(graph.height // s) * (graph.width // s) for s in (8, 16, 32)]
    shapes = [port.shape for port in graph.outputs if len(port.shape) == 3]
    if len(graph.outputs) != 6 or sorted(shape[1] for shape in shapes) != sorted(2 * grids):
        return None
    for bins, options in ((11, {}), (8, {"bins": 8})):
        if sum(shape[2] == 4 * bins for shape in shapes) == 3:
            return _Found(None, options, (_PEOPLE.format(label=0),))
    return None


def _centre_point(graph: GraphPorts) -> _Found | None:
    if any(len(port.shape) != 4 for port in graph.outputs) or len({port.shape[2:] for port in graph.outputs}) != 1:
        return None
    doubts = (_PEOPLE.format(label=0), "sizes are in cells (`size_in_pixels`), x before y (`yx`)")
    pairs = [port.name for port in graph.outputs if port.shape[1] == 2]
    classes = [port.name for port in graph.outputs if port.shape[1] != 2]
    if classes == ["hm"] and sorted(pairs) in (["wh"], ["reg", "wh"]):
        return _Found(None, {} if "reg" in pairs else {"offset": ""}, doubts)
    if len(classes) != 1 or len(pairs) != 2:
        return None
    names = {"heatmap": classes[0], "size": pairs[0], "offset": pairs[1]}
    return _Found(
        None, names, (*doubts, f"{pairs[0]} is the size of boxes (`size`), {pairs[1]} their place (`offset`)")
    )


def _keypoint_detections(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "boxes", "scores", "labels", "keypoints", "keypoints_scores")
    if shapes is None or shapes[0][-1:] != (4,) or shapes[3][-1] not in (2, 3):
        return None
    return _Found(
        shapes[3][-2], {}, (_PEOPLE.format(label=1), "boxes are x1, y1, x2, y2 in pixels (`form`, `relative`)")
    )


def _detections(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "boxes", "scores", "labels")
    if shapes is None or shapes[0][-1:] != (4,) or len(shapes[0]) not in (2, 3):
        return None
    return _Found(None, {}, (_PEOPLE.format(label=1), "boxes are x1, y1, x2, y2 in pixels (`form`, `relative`)"))


def _blazepose(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "Identity", "Identity_1", "Identity_3", "Identity_4")
    return _Found(33) if shapes and [shapes[0][-1], shapes[3][-1]] == [195, 117] else None


def _blazepose_detector(graph: GraphPorts) -> _Found | None:
    shapes = _named(graph, "Identity", "Identity_1")
    return _Found(None) if shapes and (shapes[0][1:], shapes[1][1:]) == ((2254, 12), (2254, 1)) else None


def _options(given: Sequence[str], **defaults: str) -> dict[str, object]:
    """The options whose names of outputs differ from the defaults."""
    return {key: name for (key, default), name in zip(defaults.items(), given, strict=True) if name != default}


_BGR: Mapping[str, object] = {"order": "bgr", "pad": 114}
_UNIT: Mapping[str, object] = {"std": (255.0, 255.0, 255.0)}
_GREY: Mapping[str, object] = {**_UNIT, "pad": 114}
_EDGE: Mapping[str, object] = {**_UNIT, "pad": "edge"}
_SIGNED: Mapping[str, object] = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}
_RTMDET: Mapping[str, object] = {**_BGR, "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)}
_KEYPOINT_RCNN = "boxes (n, k, 4), scores, labels, keypoints (n, k, K, 3), keypoints_scores"
_YOLO = "(n, 5 + 3K, cells), (n, 3 x cells, 6 + 3K), or (n, k, 6 + 3K) without duplicates"
_HEADS = "centres (n, h, w, 1), keypoints (n, h, w, 17), guesses (n, h, w, 34), offsets (n, h, w, 34)"
_LANDMARKS = "Identity (n, 195), Identity_1, Identity_3, Identity_4 (n, 117)"
_RULES = (
    _Rule("rtmo", "one-stage", "dets (n, k, 5), keypoints (n, k, K, 3)", _rtmo, _BGR),
    _Rule("detrpose", "one-stage", "scores (n, k), labels (n, k), keypoints (n, k, K, 2)", _detrpose, _UNIT),
    _Rule("detections", "one-stage", _KEYPOINT_RCNN, _keypoint_detections, _UNIT),
    _Rule("yolo_pose", "one-stage", _YOLO, _yolo_pose, _GREY),
    _Rule("movenet", "one-stage", "(n, 6, 56)", _movenet, {}),
    _Rule("movenet_heads", "one-stage", f"{_HEADS}, box_sizes, box_offsets", _movenet_heads_and_boxes, _SIGNED),
    _Rule("movenet", "estimator", "(n, 1, 17, 3)", _movenet_single, {}),
    _Rule("movenet_heads", "estimator", _HEADS, _movenet_heads, _SIGNED),
    _Rule("simcc", "estimator", "(n, K, split x width) and (n, K, split x height)", _simcc, _IMAGENET),
    _Rule("simcc_3d", "estimator", "those of simcc, and (n, K, bins)", _simcc_3d, _IMAGENET),
    _Rule("blazepose", "estimator", _LANDMARKS, _blazepose, _EDGE),
    _Rule(
        "associative_embedding", "bottom-up", "(n, 2K, h, w), larger (n, K, H, W)", _associative_embedding, _IMAGENET
    ),
    _Rule("part_affinity", "bottom-up", "(n, 18 or 19, h, w) and (n, 38, h, w)", _part_affinity, {"order": "bgr"}),
    _Rule("personlab", "bottom-up", "(n, h, w, 17), (n, h, w, 34), (n, h, w, 64)", _personlab, {}),
    _Rule("heatmap", "estimator", "one (n, K, h, w), with the aspect of the input", _heatmap, _IMAGENET),
    _Rule("rtmdet", "detector", "dets (n, k, 5), labels (n, k)", _rtmdet, _RTMDET),
    _Rule(
        "nanodet", "detector", "for each of three grids (n, cells, classes), (n, cells, 4 x bins)", _nanodet, _RTMDET
    ),
    _Rule("centre_point", "detector", "(n, classes, h, w), (n, 2, h, w), (n, 2, h, w)", _centre_point, _UNIT),
    _Rule("yolox", "detector", "(n, cells, 5 + classes)", _yolox, _BGR),
    _Rule("detections", "detector", "boxes (n, k, 4), scores, labels", _detections, _UNIT),
    _Rule("blazepose_detector", "detector", "(n, 2254, 12), (n, 2254, 1)", _blazepose_detector, _SIGNED),
)
