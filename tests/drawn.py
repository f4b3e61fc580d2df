"""The outputs that networks of each signature would have for given people: (17, 2) keypoints x, y in input pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.families.whole_frame import boxes_around
from engines.poses import Floats

Outputs = dict[str, NDArray[Any]]
SCORE = 0.9

_EDGES = [
    (0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
]  # fmt: skip


def box_of(person: Floats) -> Floats:
    """The box x1, y1, x2, y2 around a person."""
    box: Floats = boxes_around(person[None], np.ones((1, 17), np.float32))[0]
    return box


def personlab(width: int, height: int, *people: Floats) -> Outputs:
    """In a disk around each keypoint, high scores and the offsets to it and to its neighbours."""
    cells = ((height - 1) // 16 + 1, (width - 1) // 16 + 1)
    heat = np.full((*cells, 17), -6, np.float32)
    short = np.zeros((*cells, 2, 17), np.float32)
    mid = np.zeros((*cells, 2, 2, 16), np.float32)
    ys, xs = np.mgrid[: cells[0], : cells[1]] * 16.0
    for person in people:
        for k, (x, y) in enumerate(person):
            distance = np.hypot(xs - x, ys - y)
            near = distance < 24
            heat[near, k] = np.maximum(heat[near, k], 3 - distance[near] / 12)
            short[near, :, k] = np.stack([y - ys[near], x - xs[near]], axis=-1)
            for e, edge in enumerate(_EDGES):
                for backwards, (source, target) in enumerate((edge, edge[::-1])):
                    if source == k:
                        to_x, to_y = person[target]
                        mid[near, backwards, :, e] = np.stack([to_y - ys[near], to_x - xs[near]], axis=-1)
    return {"heat": heat[None], "short": short.reshape(1, *cells, 34), "mid": mid.reshape(1, *cells, 64)}


def associative_embedding(width: int, height: int, *people: Floats) -> Outputs:
    """A Gaussian at each keypoint, and the person's tag around it."""
    result: Outputs = {}
    for name, stride in (("out_low", 4), ("out_high", 2)):
        ys, xs = np.mgrid[: height // stride, : width // stride] * float(stride)
        heatmaps, tags = (np.zeros((17, *ys.shape), np.float32) for _ in range(2))
        for number, person in enumerate(people):
            for k, (x, y) in enumerate(person):
                squared = np.square(xs - x) + np.square(ys - y)
                heatmaps[k] = np.maximum(heatmaps[k], SCORE * np.exp(-squared / 32))
                tags[k][squared < 150] = 3 * number + 0.01 * k
        result[name] = np.concatenate([heatmaps, tags])[None] if name == "out_low" else heatmaps[None]
    return result


def rtmo(*people: Floats) -> Outputs:
    """Boxes with scores, keypoints with scores, and a row of padding."""
    rows = [(*box_of(person), SCORE) for person in people] + [(0.0,) * 5]
    points = [np.column_stack([person, np.full(17, SCORE)]) for person in people] + [np.zeros((17, 3))]
    return {"dets": np.array([rows], np.float32), "keypoints": np.array([points], np.float32)}


def movenet(width: int, height: int, *people: Floats) -> Outputs:
    """Six rows. Rows without a person have low scores."""
    rows = np.full((6, 56), 0.05, np.float32)
    for row, person in zip(rows, people, strict=False):
        row[:51] = np.column_stack([person[:, 1] / height, person[:, 0] / width, np.full(17, SCORE)]).ravel()
        row[51:] = (*(box_of(person)[[1, 0, 3, 2]] / np.tile([height, width], 2)), SCORE)
    return {"output_0": rows[None]}


def yolo_pose(*people: Floats, layout: str = "columns") -> Outputs:
    """Each person several times, slightly displaced and with lower scores, among many empty rows."""
    rows = []
    for person in people:
        for shift in (4.0, 0.0, -3.0):
            x1, y1, x2, y2 = box_of(person) + shift
            score = SCORE if shift == 0 else 0.6
            box = (x1, y1, x2, y2) if layout == "end-to-end" else ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            marks = {"columns": (score,), "rows": (score, 1.0), "end-to-end": (score, 0.0)}[layout]
            rows.append((*box, *marks, *np.column_stack([person + shift, np.full(17, SCORE)]).ravel()))
    table = np.pad(np.array(rows, np.float32).reshape(len(rows), -1), ((7, 30), (0, 0)))
    return {"output0": (table.T if layout == "columns" else table)[None]}


def keypoint_rcnn(*people: Floats) -> Outputs:
    """torchvision's outputs for one image, without a batch. The first object is a dog."""
    boxes = np.array([(5, 5, 60, 40), *(box_of(person) for person in people)], np.float32)
    n = len(people)
    points = np.array([np.zeros((17, 2)), *people], np.float32)
    return {
        "boxes": boxes,
        "labels": np.array([18] + [1] * n),
        "scores": np.array([0.95] + [SCORE] * n, np.float32),
        "keypoints": np.concatenate([points, np.ones((n + 1, 17, 1), np.float32)], axis=-1),
        "keypoints_scores": np.full((n + 1, 17), 2.2, np.float32),  # logits: 0.9
    }


_OPENPOSE = [0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]  # as COCO's, with the neck as the 18th
_LIMBS = [
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17),
]  # fmt: skip
_FIELDS = [12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26]


def part_affinity(width: int, height: int, *people: Floats) -> Outputs:
    """A Gaussian at each keypoint and the neck, and the direction of each limb along it, about a cell wide."""
    ys, xs = (side * 8 + 3.5 for side in np.mgrid[: height // 8, : width // 8])
    heatmaps, fields = np.zeros((19, *xs.shape), np.float32), np.zeros((38, *xs.shape), np.float32)
    for person in people:
        points = np.concatenate([person, person[5:7].mean(axis=0, keepdims=True)])[_OPENPOSE]
        for k, (x, y) in enumerate(points):
            heatmaps[k] = np.maximum(heatmaps[k], SCORE * np.exp(-(np.square(xs - x) + np.square(ys - y)) / 72))
        for (first, second), channel in zip(_LIMBS, _FIELDS, strict=True):
            (x, y), way = points[first], points[second] - points[first]
            length = np.hypot(*way)
            along = ((xs - x) * way[0] + (ys - y) * way[1]) / length
            aside = np.abs((xs - x) * way[1] - (ys - y) * way[0]) / length
            on = (along > -4) & (along < length + 4) & (aside < 8)
            fields[channel : channel + 2, on] = (way / length)[:, None]
    heatmaps[18] = 1 - heatmaps[:18].max(axis=0)
    return {"Mconv7_stage2_L1": fields[None], "Mconv7_stage2_L2": heatmaps[None]}


def yolox(width: int, height: int, *boxes: Floats) -> Outputs:
    """Each box in the cell of the finest grid that contains its centre, and in the next cell."""
    layers = [(height // stride, width // stride) for stride in (8, 16, 32)]
    raw = np.zeros((1, sum(rows * columns for rows, columns in layers), 6), np.float32)
    for x1, y1, x2, y2 in boxes:
        x, y = (x1 + x2) / 16, (y1 + y2) / 16
        for score, column in ((SCORE, int(x)), (0.6, int(x) + 1)):
            place = (x - column, y - int(y), np.log((x2 - x1) / 8), np.log((y2 - y1) / 8))
            raw[0, int(y) * layers[0][1] + column] = (*place, score, 1.0)
    return {"output": raw}


def nanodet(width: int, height: int, *boxes: Floats) -> Outputs:
    """Each box at the point of the middle grid next to its centre, and at the point to the right of that."""
    outputs: Outputs = {}
    for number, stride in enumerate((8, 16, 32)):
        columns, points = width // stride, width // stride * (height // stride)
        scores, sides = np.zeros((1, points, 2), np.float32), np.zeros((1, points, 4, 11), np.float32)
        for x1, y1, x2, y2 in boxes if stride == 16 else ():
            column, row = int((x1 + x2) / 2) // stride, int((y1 + y2) / 2) // stride
            for right, score in ((0, SCORE), (1, 0.6)):
                x, y = ((place + 0.5) * stride - 0.5 for place in (column + right, row))
                at = row * columns + column + right
                scores[0, at, 0] = score
                sides[0, at] = [_between_bins(side / stride) for side in (x - x1, y - y1, x2 - x, y2 - y)]
        outputs |= {f"scores_{number}": scores, f"sides_{number}": sides.reshape(1, points, 44)}
    return outputs


def _between_bins(value: float) -> Floats:
    """The logits of a distribution over 11 bins with the mean `value`."""
    logits: Floats = np.log(np.maximum(1 - np.abs(np.arange(11) - value), 1e-9)).astype(np.float32)
    return logits


def centre_point(width: int, height: int, *boxes: Floats) -> Outputs:
    """CenterNet's heads: each box at the cell of its centre, with a lower score in the next cell."""
    grid = (height // 4, width // 4)
    heatmap, sizes, offsets = (np.zeros((1, 2, *grid), np.float32) for _ in range(3))
    heatmap -= 8
    for x1, y1, x2, y2 in boxes:
        x, y = (x1 + x2) / 8, (y1 + y2) / 8
        for column, score in ((int(x), SCORE), (int(x) + 1, 0.6)):
            heatmap[0, 0, int(y), column] = _logit(score)
            sizes[0, :, int(y), column] = (x2 - x1) / 4, (y2 - y1) / 4
            offsets[0, :, int(y), column] = x - column, y - int(y)
    return {"hm": heatmap, "wh": sizes, "reg": offsets}


def movenet_heads(width: int, height: int, *people: Floats) -> Outputs:
    """MoveNet's heads: people at the cells of their centres, their keypoints at their own cells."""
    grid = (height // 4, width // 4)
    channels = {"centres": 1, "keypoints": 17, "guesses": 34, "offsets": 34, "box_sizes": 2, "box_offsets": 2}
    outputs = {name: np.zeros((*grid, count), np.float32) for name, count in channels.items()}
    for name in ("centres", "keypoints"):
        outputs[name] -= 8
    for person in people:
        x1, y1, x2, y2 = box_of(person) / 4
        middle = np.array([(y1 + y2) / 2, (x1 + x2) / 2])
        centre = tuple(middle.astype(int))
        points = person[:, ::-1] / 4
        cells = points.astype(int)
        outputs["centres"][centre] = _logit(SCORE)
        outputs["box_sizes"][centre] = y2 - y1, x2 - x1
        outputs["box_offsets"][centre] = middle - centre
        outputs["guesses"][centre] = (cells - centre).ravel()
        for k, cell in enumerate(cells):
            outputs["keypoints"][(*cell, k)] = _logit(SCORE)
            outputs["offsets"][(*cell, slice(2 * k, 2 * k + 2))] = points[k] - cell
    return {name: values[None] for name, values in outputs.items()}


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))
