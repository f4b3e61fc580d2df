"""The plot of `posewire bench URL`: latency against load, and its parts, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from service.load.samples import PARTS, Step

_SCALE = 2
"""Everything is drawn in twice the size and shrunk, for smooth edges."""
_WIDTH, _HEIGHT, _MARGIN = 720, 380, 64
_BACK, _INK, _FAINT, _GRID = "#ffffff", "#1d1d1f", "#6e6e73", "#e5e5ea"
_COLOURS = dict(zip(PARTS, ("#b4b4bb", "#ffb000", "#3ba3ec", "#5e5ce6", "#34c3a0", "#d1477f", "#8f6b4a"), strict=True))
_CURVES = {"p50": "#3b62ec", "p95": "#a45ee6", "p99": "#d9383a"}
_TITLES = {
    "closed": ("Stills, ever more at once", "images a second"),
    "open": ("Stills at a fixed rate", "images asked for a second"),
    "streams": ("Streams", "streams"),
}


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps 0..most to pixels start..end."""

    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * min(value, self.most) / self.most

    def ticks(self) -> list[float]:
        """Round numbers, five or so, up to the end."""
        raw = self.most / 4
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * min((1, 2, 2.5, 5, 10), key=lambda nice: abs(nice * power - raw))
        return [step * n for n in range(1, int(self.most / step + 1e-9) + 1)]


def draw_chart(path: Path, title: str, steps: Sequence[Step]) -> None:
    """Write a PNG with a row for each kind of load: latencies on the left, their parts on the right.

    Raises OSError if it cannot be written.
    """
    kinds = [kind for kind in _TITLES if any(step.kind == kind and _drawable(step) for step in steps)]
    size = 2 * _WIDTH * _SCALE, (_HEIGHT * len(kinds) + 56) * _SCALE
    image = Image.new("RGB", size, _BACK)
    pen = _Pen(ImageDraw.Draw(image))
    pen.text(24, 18, title, 20, _INK)
    for row, kind in enumerate(kinds):
        some = [step for step in steps if step.kind == kind and _drawable(step)]
        top = 56 + row * _HEIGHT
        _draw_curves(pen, top, kind, some)
        _draw_parts(pen, top, kind, some)
    image.resize((size[0] // _SCALE, size[1] // _SCALE), Image.Resampling.LANCZOS).save(path, "PNG")


def _drawable(step: Step) -> bool:
    return math.isfinite(step.p99) and step.load > 0


def _load(step: Step) -> float:
    return step.rate if step.kind == "closed" else step.load


def _draw_curves(pen: _Pen, top: int, kind: str, steps: Sequence[Step]) -> None:
    title, label = _TITLES[kind]
    left, right, low, high = _MARGIN, _WIDTH - 24, top + _HEIGHT - 56, top + 56
    pen.text(left, top + 8, f"{title}: latency", 15, _INK)
    x = _Scale(1.08 * max(_load(step) for step in steps), left, right)
    y = _Scale(1.1 * max(step.p99 for step in steps), low, high)
    pen.axes(x, y, label, "ms")
    for n, (name, colour) in enumerate(_CURVES.items()):
        points = [(x(_load(step)), y(getattr(step, name))) for step in steps]
        pen.line(points, colour, 2.5)
        for point in points:
            pen.dot(*point, colour)
        pen.legend(left + 70 * n, top + 34, name, colour)


def _draw_parts(pen: _Pen, top: int, kind: str, steps: Sequence[Step]) -> None:
    left, right, low, high = _WIDTH + _MARGIN, 2 * _WIDTH - 24, top + _HEIGHT - 56, top + 56
    pen.text(left, top + 8, f"{_TITLES[kind][0]}: where the time goes, mean", 15, _INK)
    y = _Scale(1.1 * max(sum(step.parts.values()) for step in steps), low, high)
    pen.axes(None, y, {"closed": "at once"}.get(kind, _TITLES[kind][1]), "ms", left=left, right=right)
    room = (right - left) / len(steps)
    for n, step in enumerate(steps):
        begin, below = left + room * (n + 0.2), 0.0
        for part in PARTS:
            value = step.parts.get(part, 0.0)
            pen.box(begin, y(below + value), begin + 0.6 * room, y(below), _COLOURS[part])
            below += value
        pen.text(left + room * (n + 0.5), low + 6, f"{step.load:.3g}", 12, _FAINT, anchor="ma")
    used = [part for part in PARTS if any(step.parts.get(part, 0.0) > 0 for step in steps)]
    for n, part in enumerate(used):
        pen.legend(left + 90 * n, top + 34, part, _COLOURS[part])


@dataclass(frozen=True, slots=True)
class _Pen:
    """Draws in units of the finished picture's pixels."""

    draw: ImageDraw.ImageDraw

    def text(self, x: float, y: float, text: str, size: int, colour: str, anchor: str = "la") -> None:
        font = ImageFont.load_default(size * _SCALE)
        self.draw.text((x * _SCALE, y * _SCALE), text, colour, font, anchor)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self.draw.line(scaled, colour, round(width * _SCALE), "curve")

    def dot(self, x: float, y: float, colour: str) -> None:
        self.draw.circle((x * _SCALE, y * _SCALE), 4 * _SCALE, colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        if bottom - top > 1 / _SCALE:
            self.draw.rectangle([v * _SCALE for v in (left, top, right, bottom)], colour)

    def legend(self, x: float, y: float, name: str, colour: str) -> None:
        self.box(x, y + 2, x + 12, y + 12, colour)
        self.text(x + 17, y, name, 12, _FAINT)

    def axes(
        self, x: _Scale | None, y: _Scale, x_label: str, y_label: str, *, left: float = 0.0, right: float = 0.0
    ) -> None:
        """Draw a grid with numbers. x: None for one without numbers, from `left` to `right`."""
        left, right = (x.start, x.end) if x is not None else (left, right)
        for value in y.ticks():
            self.line([(left, y(value)), (right, y(value))], _GRID, 1)
            self.text(left - 8, y(value), f"{value:g}", 12, _FAINT, anchor="rm")
        self.line([(left, y.start), (right, y.start)], _FAINT, 1)
        for value in x.ticks() if x is not None else ():
            self.text(x(value) if x is not None else 0, y.start + 6, f"{value:g}", 12, _FAINT, anchor="ma")
        self.text(right, y.start + 26, x_label, 12, _FAINT, anchor="ra")
        self.text(left - 8, y.end - 6, y_label, 12, _FAINT, anchor="rb")
