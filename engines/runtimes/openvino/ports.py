"""Reads what a graph file takes and gives, without compiling it."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
from openvino.frontend import FrontEndManager

from engines.inputs import GraphPorts, Port
from engines.runtimes.openvino.graphs import name_ports

_READERS = {".onnx": "onnx", ".xml": "ir", ".tflite": "tflite", ".pb": "tf"}
_NO_GRAPH = (
    "graphs are .onnx, .xml with .bin (OpenVINO IR), .tflite, .pb (a frozen TensorFlow graph) and the model.json of a "
    "TensorFlow.js GraphModel; export other models, such as PyTorch's, to ONNX"
)


def read_ports(path: Path, size: tuple[int, int] | None = None) -> GraphPorts:
    """The image that the graph at `path` takes, and its outputs.

    size: the height and width of the image, for graphs that take any.
    Raises ValueError, with a message that begins with a verb, for files that are no graphs, for graphs that do not take
    one image with three channels, or do not say its size, and for a size that they cannot take.
    """
    model = _read(path)
    name_ports(model)
    image = _image(model)
    shape = image.partial_shape
    rows = 2 if _is_channel(shape[1]) else 1
    sides = [shape[rows], shape[rows + 1]]
    refused = "" if size is None else f"cannot take images of {size[0]} x {size[1]} (height x width)"
    if size is not None:
        if any(side.is_static and side.get_length() != wanted for side, wanted in zip(sides, size, strict=True)):
            raise ValueError(f"{refused}; its input is {' x '.join('any' if s.is_dynamic else str(s) for s in sides)}")
        shape[rows], shape[rows + 1] = (ov.Dimension(side) for side in size)
        try:
            model.reshape({image: shape})
        except RuntimeError as error:
            raise ValueError(f"{refused}; often the sides have to be multiples of 32") from error
    elif any(side.is_dynamic for side in sides):
        raise ValueError(f"takes images of any size ({_port(image)}); say which with --size HEIGHTxWIDTH")
    taken = _port(image)
    return GraphPorts(taken, taken.shape[rows], taken.shape[rows + 1], tuple(_port(port) for port in model.outputs))


def _read(path: Path) -> ov.Model:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"is not a graph; {_NO_GRAPH}")
    try:
        # Asked first, because `read_model` tries all readers, which print what they make of it.
        if not FrontEndManager().load_by_framework(reader).supported(str(path)):
            raise ValueError(f"is not a graph, or is damaged; {_NO_GRAPH}")
        return ov.Core().read_model(path)
    except RuntimeError as error:
        missing = ", or its .bin file is not beside it" if reader == "ir" else ""
        raise ValueError(
            f"cannot be read: it is damaged, or has operators that OpenVINO does not know{missing}"
        ) from error


def _image(model: ov.Model) -> ov.Output:
    """The only image among the inputs. Inputs (n, 2) beside it are sizes, which runtimes make constants."""
    ranks = {port: port.partial_shape.rank for port in model.inputs}
    images = [
        port
        for port, rank in ranks.items()
        if rank.is_static and rank.get_length() == 4 and any(_is_channel(port.partial_shape[axis]) for axis in (1, 3))
    ]
    others = [port for port in model.inputs if port not in images and _port(port).shape[1:] != (2,)]
    if len(images) != 1 or others:
        taken = ", ".join(str(_port(port)) for port in model.inputs)
        raise ValueError(f"takes {taken}; models take one image (n, 3, height, width) or (n, height, width, 3)")
    return images[0]


def _is_channel(side: ov.Dimension) -> bool:
    return bool(side.is_static and side.get_length() == 3)


def _port(port: ov.Output) -> Port:
    shape = port.partial_shape
    sides = tuple(side.get_length() if side.is_static else -1 for side in shape) if shape.rank.is_static else ()
    return Port(port.get_any_name(), sides, port.element_type.to_dtype())
