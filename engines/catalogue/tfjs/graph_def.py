"""Writes TensorFlow's GraphDef in protobuf's wire format: varints, and fields that carry their length.

The messages: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {"DT_FLOAT": 1, "DT_INT32": 3, "DT_UINT8": 4, "DT_STRING": 7, "DT_INT64": 9, "DT_BOOL": 10}
"""The types that can be written, by their names in JSON, with their numbers in DataType."""
_PRODUCER = 808
"""The version of GraphDef that is written."""


def graph_def(nodes: Iterable[bytes]) -> bytes:
    """A GraphDef of these nodes."""
    return b"".join(nodes) + _chunk(4, _number(1, _PRODUCER))


def node_def(name: str, op: str, inputs: Sequence[str], attributes: Mapping[str, bytes]) -> bytes:
    """A NodeDef as an entry of a GraphDef. attributes: AttrValues by name."""
    body = _chunk(1, name) + _chunk(2, op) + b"".join(_chunk(3, source) for source in inputs)
    return _chunk(1, body + b"".join(_chunk(5, _chunk(1, key) + _chunk(2, value)) for key, value in attributes.items()))


def attribute(value: Mapping[str, Any]) -> bytes:
    """An AttrValue from its JSON form. Raises KeyError, TypeError or ValueError if it has another form."""
    [(kind, content)] = value.items()
    match kind:
        case "s":
            return _chunk(2, text(content))
        case "i":
            return _number(3, int(content))
        case "f":
            return _varint(4 << 3 | 5) + struct.pack("<f", float(content))
        case "b":
            return _number(5, int(content))
        case "type":
            return type_attribute(data_type(content))
        case "shape":
            if content.get("unknownRank"):
                return _chunk(7, _number(3, 1))
            return shape_attribute([int(side.get("size", 0)) for side in content.get("dim", ())])
        case "list":
            return _chunk(1, b"".join(attribute({inner: one}) for inner, many in content.items() for one in many))
    raise ValueError(f"an attribute of kind {kind} is not supported")


def type_attribute(kind: int) -> bytes:
    """The AttrValue of a type."""
    return _number(6, kind)


def shape_attribute(sides: Sequence[int]) -> bytes:
    """The AttrValue of a shape, with -1 for sides of any length."""
    return _chunk(7, _shape(sides))


def tensor_attribute(array: NDArray[np.generic], kind: int) -> bytes:
    """The AttrValue of a tensor of type `kind`, whose values `array` holds as TensorFlow does."""
    return _chunk(8, _number(1, kind) + _chunk(2, _shape(array.shape)) + _chunk(4, array.tobytes()))


def data_type(value: str | int) -> int:
    """The number of a type. Raises ValueError for a type that cannot be written."""
    kind = TYPES.get(value, 0) if isinstance(value, str) else value
    if kind not in TYPES.values():
        raise ValueError(f"type {value} is not supported")
    return kind


def text(value: str | Sequence[int]) -> bytes:
    """Bytes from their JSON form: base64, or a list of numbers (tfjs-converter before 1.0)."""
    return base64.b64decode(value) if isinstance(value, str) else bytes(value)


def _shape(sides: Sequence[int]) -> bytes:
    return b"".join(_chunk(2, _number(1, side)) for side in sides)


def _chunk(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is its two's complement, and takes ten bytes
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
