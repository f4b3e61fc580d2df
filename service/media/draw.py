"""Drawing people on a frame: skeletons, boxes, labels, trails, a heat map, and blurred faces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Frame, Poses
from engines.skeletons import Skeleton
from service.media.faces import blur_circles
from service.media.heat_map import HeatMap
from service.media.labels import draw_labels
from service.media.layer import Layer
from service.media.palette import Colouring, Palette, colour_of, palette_of
from service.media.trails import Trail, Trails

__all__ = ["DrawOptions", "HeatMap", "Trail", "Trails", "draw"]

Background = Literal["picture", "none", "black"]

_FINE = 60
"""The size of a fine part of a skeleton, such as a hand, in widths of its lines."""
_FINE_SHADE = 0.55
"""Opacity of the rim of fine parts, whose lines are close to each other."""
_FAINTEST = 0.4
"""Opacity of keypoints that just reach the minimum score."""
_CERTAIN = 0.75
"""The score from which keypoints are opaque."""
_DOTS_FROM = 4
"""The width of lines from which keypoints are dots. Thinner lines have round ends, which suffice."""


class DrawOptions(TypedDict, total=False):
    """What clients choose of `draw`."""

    boxes: bool
    ids: bool
    labels: bool
    colours: Colouring
    background: Background


def draw(
    pixels: Frame,
    poses: Poses,
    *,
    min_keypoint_score: float = 0.3,
    boxes: bool = False,
    ids: bool = False,
    labels: bool = False,
    colours: Colouring = "auto",
    background: Background = "picture",
    faces: Doubles | None = None,
    trails: Sequence[Trail] = (),
    heat: HeatMap | None = None,
    in_place: bool = False,
) -> Frame:
    """Draw the people of `poses` on a copy of `pixels`, or on `pixels` themselves if `in_place`.

    Keypoints below `min_keypoint_score`, and limbs that end in them, are left out; the less sure they are, the fainter
    they are drawn. Lines are as thick as the person is large.
    boxes: draw each person's box. ids: write each person's id, or without ids the place in `poses`. labels: write the
    score. colours: what they tell apart. background: black replaces the pixels; for none see `pictures`.
    faces: circles to blur, see `faces.head_circles`. trails, heat: drawn below the people.
    """
    canvas = pixels if in_place else pixels.copy()
    if background == "black":
        canvas[:] = 0
    elif faces is not None:
        blur_circles(canvas, faces)
    if heat is not None:
        heat.lay(canvas)
    if trails:
        _draw_trails(canvas, trails)
    if len(poses):
        _draw_people(canvas, poses, _figures(poses, canvas, min_keypoint_score), colours, boxes=boxes)
    if ids or labels:  # after all people, so that nothing covers them
        draw_labels(canvas, poses, colours, ids=ids, scores=labels)
    return canvas


class _Group(NamedTuple):
    """Keypoints that are drawn alike: a fine part of a skeleton, or all the rest.

    keypoints: (P,). limbs: (L, 2) keypoints. sides, limb_sides: of each, the index of a colour in a palette.
    joined: (L, P) True where a limb ends in a keypoint.
    """

    keypoints: NDArray[np.intp]
    sides: NDArray[np.intp]
    limbs: NDArray[np.intp]
    limb_sides: NDArray[np.intp]
    joined: NDArray[np.bool_]
    fine: bool


@lru_cache(64)
def _groups(skeleton: Skeleton) -> tuple[_Group, ...]:
    """The skeleton without its fine parts, and then these, which are drawn over it."""
    sides = np.full(len(skeleton), 2)
    for side in (0, 1):
        sides[[pair[side] for pair in skeleton.pairs]] = side
    part = np.full(len(skeleton), -1)
    for number, members in enumerate(skeleton.parts):
        part[list(members)] = number
    limbs = np.array(skeleton.limbs, np.intp).reshape(-1, 2)
    limb_parts = part[limbs].max(axis=1)  # a limb that ends in a part is as fine as that
    limb_sides = np.where(sides[limbs[:, 0]] == sides[limbs[:, 1]], sides[limbs[:, 0]], 2)
    groups = []
    for number in range(-1, len(skeleton.parts)):
        keypoints, own = np.flatnonzero(part == number), limbs[limb_parts == number]
        joined = (own[:, :, None] == keypoints).any(axis=1)
        groups.append(
            _Group(keypoints, sides[keypoints], own, limb_sides[limb_parts == number], joined, fine=number >= 0)
        )
    return tuple(groups)


class _Figures(NamedTuple):
    """How the people of a frame are drawn.

    points: (N, K, 2) finite. opacity: (N, K), 0 for keypoints that are left out. widths: (N,) of lines, in pixels.
    """

    points: Doubles
    opacity: Doubles
    widths: list[int]


def _figures(poses: Poses, canvas: Frame, min_score: float) -> _Figures:
    points, scores = poses.keypoints.astype(np.float64), poses.keypoint_scores.astype(np.float64)
    visible = (scores >= min_score) & np.isfinite(points).all(axis=2)
    sure = np.clip((scores - min_score) / max(_CERTAIN - min_score, 1e-6), 0, 1)
    limit = 4.0 * max(canvas.shape)
    points = np.where(visible[..., None], points, 0.0).clip(-limit, limit)
    opacity = np.where(visible, _FAINTEST + (1 - _FAINTEST) * sure, 0.0)
    boxes = poses.boxes[:, 2:].astype(np.float64) - poses.boxes[:, :2]
    sizes = np.nan_to_num(np.concatenate([_extents(points, visible), boxes], axis=1), posinf=0.0, neginf=0.0)
    # As thick as the person is large, within limits that depend on the frame.
    frame = float(np.hypot(*canvas.shape[:2]))
    widths = np.rint(np.clip(sizes.max(axis=1) / 70, max(1.0, frame / 700), max(2.0, frame / 130)))
    return _Figures(points, opacity, widths.astype(int).tolist())


def _extents(points: Doubles, visible: NDArray[np.bool_]) -> Doubles:
    """Return the width and height (N, 2) of what is visible of points (N, K, 2)."""
    seen = visible[..., None]
    low, high = (np.where(seen, points, fill) for fill in (np.inf, -np.inf))
    return np.asarray(np.maximum(high.max(axis=1, initial=-np.inf) - low.min(axis=1, initial=np.inf), 0.0))


def _draw_people(canvas: Frame, poses: Poses, figures: _Figures, colours: Colouring, *, boxes: bool) -> None:
    palettes = [palette_of(poses, n, colours) for n in range(len(poses))]
    shown = figures.points[figures.opacity > 0]
    corners = poses.boxes.astype(np.float64).reshape(-1, 2, 2)
    drawn = np.asarray(np.isfinite(corners).all(axis=(1, 2)) & boxes)
    shown = np.concatenate([shown, corners[drawn].reshape(-1, 2)])
    rim = max(1, round(float(np.hypot(*canvas.shape[:2])) / 1400))
    margin = 2 * max(figures.widths) + 2 * rim
    order = np.argsort(poses.scores, kind="stable").tolist()  # the best on top
    body, *parts = _groups(poses.skeleton)
    layer = Layer(canvas, shown, margin)
    for n in order:
        if drawn[n]:
            layer.rectangle(layer.fixed(corners[n]), palettes[n].middle, max(1, figures.widths[n] // 2))
    _draw_group(layer, body, figures, palettes, order)
    layer.lay(rim)
    if parts:
        layer = Layer(canvas, shown, margin)
        for part in parts:
            _draw_group(layer, part, figures, palettes, order)
        layer.lay(1, _FINE_SHADE)


def _draw_group(
    layer: Layer, group: _Group, figures: _Figures, palettes: Sequence[Palette], order: Sequence[int]
) -> None:
    """Draw one part of the skeleton of all people. order: of the people."""
    points, opacity = figures.points[:, group.keypoints], figures.opacity[:, group.keypoints]
    faintness = figures.opacity[:, group.limbs].min(axis=2)
    shades = np.array(palettes, np.float64)
    lines = (shades[:, group.limb_sides] * faintness[..., None]).astype(int).tolist()
    dots = shades[:, group.sides] * opacity[..., None]
    ends, pairs, centres = layer.fixed(figures.points), group.limbs.tolist(), layer.fixed(points)
    extents = _extents(points, opacity > 0).max(axis=1).tolist() if group.fine else []
    for n in order:
        width = figures.widths[n]
        radius = 1.1 * width
        if group.fine:
            width = max(1, min(width, round(extents[n] / _FINE)))
            radius = 0.8 * width
        layer.lines(ends[n], pairs, lines[n], width)
        if width < _DOTS_FROM:
            dots[n][group.joined[faintness[n] > 0].any(axis=0)] = 0
        layer.dots(centres[n], dots[n].astype(int).tolist(), radius)


def _draw_trails(canvas: Frame, trails: Sequence[Trail]) -> None:
    """Draw trails. Older parts are thinner and fainter."""
    points = np.concatenate([trail.points for trail in trails]).astype(np.float64)
    widest = max(2.0, float(np.hypot(*canvas.shape[:2])) / 250)
    layer = Layer(canvas, points[np.isfinite(points).all(axis=1)], 2 * widest)
    for trail in trails:
        known = np.asarray(np.isfinite(trail.points).all(axis=1))
        ends, colour = layer.fixed(np.where(known[:, None], trail.points, 0)), np.array(colour_of(trail.id))
        shades = (colour * (1 - 0.75 * trail.ages[:, None])).astype(int).tolist()
        widths = np.maximum(1, np.rint(widest * (1 - 0.7 * trail.ages))).astype(int).tolist()
        for n in np.flatnonzero(known[:-1] & known[1:]).tolist():
            layer.lines(ends, [(n, n + 1)], [shades[n + 1]], widths[n + 1])
    layer.lay(1, 0.6)
