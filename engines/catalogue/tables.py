"""Validates a catalogue's TOML tables key by key, with errors that name the entry, the key and the allowed values.

Pydantic was tried instead: models that give the same sentences took 348 lines with the schema, where this and the
schema take 336, because every sentence has to be rebuilt from pydantic's error types.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from math import isfinite
from typing import TypeVar

_T = TypeVar("_T")


class CatalogueError(ValueError):
    """A catalogue file is invalid. The message names the file, the entry, the key and the allowed values."""


class Table:
    """One table. Its keys are taken one by one; `finish` reports keys that were not taken."""

    def __init__(self, content: dict[str, object], where: str) -> None:
        self.where = where
        self._content = content
        self._known: dict[str, None] = {}

    def error(self, key: str, problem: str) -> CatalogueError:
        """The error for a `problem` with the value of `key`."""
        return CatalogueError(f"{self.where} {key}: {problem}")

    def has(self, key: str) -> bool:
        """True if the optional `key` is present. Also makes it a known key."""
        self._known[key] = None
        return key in self._content

    def take(self, key: str, kind: type[_T], what: str, default: _T | None = None) -> _T:
        """The value of `key`, which must be a `kind` (called `what` in errors), or `default` if it is absent."""
        value = self._content[key] if self.has(key) else default
        if value is None:
            raise self.error(key, f"is missing; it must be {what}")
        if type(value) is not kind:  # not isinstance: a TOML boolean is also an int
            raise self.error(key, f"is {value!r}; it must be {what}")
        return value

    def text(
        self, key: str, default: str | None = None, *, allowed: Collection[str] = (), pattern: str = r"(?s).*"
    ) -> str:
        """The string `key`: one of `allowed` if given, and a match of the regular expression `pattern`."""
        what = f"one of {', '.join(sorted(allowed))}" if allowed else "a text"
        value = self.take(key, str, what, default)
        if (allowed and value not in allowed) or not re.fullmatch(pattern, value):
            raise self.error(key, f"is {value!r}; it must be {what if allowed else f'of the form {pattern}'}")
        return value

    def integer(self, key: str, lowest: int, highest: int, default: int | None = None) -> int:
        """The integer `key`, from `lowest` to `highest`."""
        what = f"a whole number from {lowest} to {highest}"
        value = self.take(key, int, what, default)
        if not lowest <= value <= highest:
            raise self.error(key, f"is {value}; it must be {what}")
        return value

    def integer_or(self, word: str, key: str, lowest: int, highest: int, default: int) -> int | str:
        """Like `integer`, or the string `word`."""
        if self.has(key) and self._content[key] == word:
            return word
        return self.integer(key, lowest, highest, default)

    def triple(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """The three numbers `key`."""
        values = self.take(key, list, "three numbers", list(default))
        if len(values) != 3 or not all(type(value) in (int, float) and isfinite(value) for value in values):
            raise self.error(key, f"is {values!r}; it must be three numbers")
        return float(values[0]), float(values[1]), float(values[2])

    def table(self, key: str) -> Table:
        """The table `key`."""
        return self.inner(self.take(key, dict, "a table"), key)

    def tables(self, key: str) -> list[Table]:
        """The non-empty list of tables `key`."""
        values = self.take(key, list, "a list of tables")
        if not values or not all(isinstance(value, dict) for value in values):
            raise self.error(key, "must be a list of one or more tables")
        return [self.inner(value, f"{key}[{i}]") for i, value in enumerate(values)]

    def inner(self, content: dict[str, object], name: str) -> Table:
        """A table inside this one."""
        return Table(content, f"{self.where} {name}")

    def finish(self) -> None:
        """Raise CatalogueError if the table has keys that were not taken."""
        for key in self._content:
            if key not in self._known:
                raise self.error(key, f"is not a key here; those are {', '.join(self._known)}")
