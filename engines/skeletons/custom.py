"""Skeletons that users define: a table [skeletons.NAME] of a catalogue file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator

from engines.skeletons.built_in import SKELETONS
from engines.skeletons.definition import Skeleton, define

RESERVED = frozenset({*SKELETONS, "native"})
"""Names that users cannot give to skeletons."""

_MOST_KEYPOINTS = 500
_LONGEST_NAME = 64
_KNOWN = frozenset(name for skeleton in SKELETONS.values() for name in skeleton.keypoints)


def _name(value: str) -> str:
    if not (0 < len(value) <= _LONGEST_NAME and value.isprintable() and value == value.strip()):
        raise ValueError(f"it must be a name of at most {_LONGEST_NAME} printable characters")
    return value


def _reference(value: object) -> str | int:
    if isinstance(value, str) or type(value) is int:
        return value
    raise ValueError("it must be the name of a keypoint, or its number from 0")


def _sigmas(value: object) -> tuple[float, ...] | float:
    numbers: list[Any] = value if isinstance(value, list) else [value]
    if not numbers or any(type(number) not in (int, float) for number in numbers):
        raise ValueError("it must be a number, or a list with one for each keypoint")
    return tuple(map(float, numbers)) if isinstance(value, list) else float(numbers[0])


def _mapping(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError("it must be a table")
    mapping = {}
    for key, own in value.items():
        names = own if isinstance(own, list) else [own]
        if key not in _KNOWN:
            raise ValueError(f"{key}: is no keypoint of a built-in skeleton")
        if not 1 <= len(names) <= 2 or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{key}: must be the name of a keypoint, or a list of two that it lies between")
        mapping[key] = tuple(names)
    return MappingProxyType(mapping)


Reference = Annotated[str | int, PlainValidator(_reference)]


@dataclass(frozen=True, kw_only=True)
class SkeletonTable:
    """A table [skeletons.NAME]. Pydantic validates it, by the annotations; see `define` for what the keys mean.

    sigmas: one number is the sigma of all keypoints.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    keypoints: Annotated[
        tuple[Annotated[str, AfterValidator(_name)], ...], Field(min_length=1, max_length=_MOST_KEYPOINTS)
    ]
    limbs: tuple[tuple[Reference, Reference], ...] = ()
    pairs: tuple[tuple[Reference, Reference], ...] | None = None
    parts: tuple[tuple[Reference, ...], ...] = ()
    sigmas: Annotated[tuple[float, ...] | float | None, PlainValidator(_sigmas)] = None
    mapping: Annotated[Mapping[str, tuple[str, ...]], PlainValidator(_mapping)] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def __post_init__(self) -> None:
        self.skeleton("")

    def skeleton(self, name: str) -> Skeleton:
        """The skeleton of that name. Raises ValueError, see `define`."""
        sigmas = (self.sigmas,) * len(self.keypoints) if isinstance(self.sigmas, float) else self.sigmas
        return define(
            name,
            self.keypoints,
            self.limbs,
            sigmas=sigmas,
            pairs=self.pairs,
            parts=self.parts,
            mapping=self.mapping,
        )
