"""COCO's keypoint AP and AR, computed by COCO's own code (pycocotools; cocodataset.org, "Keypoint Evaluation")."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floating
from engines.skeletons import COCO_17

if TYPE_CHECKING:
    from pycocotools.coco import COCO

THRESHOLDS: NDArray[np.float64] = np.arange(10, 20, dtype=np.float64) * 0.05
"""The OKS thresholds: 0.50, 0.55, ... 0.95."""
THRESHOLDS.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class KeypointAp:
    """COCO's ten metrics in 0..1; -1 if the truth has no people for a metric.

    ap, ar: means over THRESHOLDS. medium: people of 32² to 96² pixels; large: larger people. ap_per_threshold,
    ar_per_threshold: (10,) over THRESHOLDS.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float
    ap_per_threshold: NDArray[np.float64]
    ar_per_threshold: NDArray[np.float64]


def keypoint_ap(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: Floating = COCO_17.sigmas
) -> KeypointAp:
    """Compute AP and AR of results over all images of the truth.

    truth: COCO annotations (images, annotations, categories). results: COCO results. Both as checked by
    `service.formats.coco.read_coco_truth` and `read_coco_results`; neither is changed. sigmas: (K,) of their skeleton.
    Raises ValueError for results of images that the truth does not have, and ModuleNotFoundError without pycocotools,
    which only this function needs: pip install 'posewire[eval]'.
    """
    from pycocotools.cocoeval import COCOeval

    strange = {result["image_id"] for result in results} - {image["id"] for image in truth["images"]}
    if strange:
        raise ValueError(f"the truth has no image {min(strange)}, which the results name")
    people = [
        {
            "id": number,
            "iscrowd": person.get("iscrowd", 0),
            "num_keypoints": person.get("num_keypoints", sum(v > 0 for v in person["keypoints"][2::3])),
        }
        | {key: person[key] for key in ("image_id", "category_id", "keypoints", "area", "bbox")}
        for number, person in enumerate(truth["annotations"], 1)
    ]
    # Without boxes, a found person's size is computed from its keypoints, as on COCO's server.
    found = [{key: r[key] for key in ("image_id", "category_id", "keypoints", "score")} for r in results]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints messages
        labelled = _indexed(truth, people)
        scoring = COCOeval(labelled, labelled.loadRes(found) if found else _indexed(truth, []), "keypoints")
        scoring.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    precision, recall = scoring.eval["precision"][:, :, :, 0, 0], scoring.eval["recall"][:, :, 0, 0]
    figures: list[Any] = [*map(float, scoring.stats), _means(precision), _means(recall)]
    return KeypointAp(*figures)


def _indexed(truth: Mapping[str, Any], people: list[dict[str, Any]]) -> COCO:
    from pycocotools.coco import COCO

    coco = COCO()
    categories = [{"id": category["id"]} for category in truth["categories"]]
    images = [{"id": image["id"]} for image in truth["images"]]
    coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": people}
    coco.createIndex()
    return coco


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the known values (not -1) in each row; -1 if there are none."""
    rows = values.reshape(len(values), -1)
    known = rows > -1
    return np.where(known.any(axis=1), (rows * known).sum(axis=1) / np.maximum(1, known.sum(axis=1)), -1.0)
