"""The work of `posewire eval`: compute metrics of files, and format them as a table or as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engines.files import read_small, shown, without_mark
from engines.poses import Doubles, Floating
from engines.skeletons import POSETRACK_15, SKELETONS, Skeleton
from service.evaluation.clear import ClearMot, clear_mot
from service.evaluation.higher_order import Hota, hota
from service.evaluation.idf1 import Identity, identity
from service.evaluation.joint_ap import JointAp, posetrack_map
from service.evaluation.joint_mot import JointMot, posetrack_mot
from service.evaluation.joints import GROUPS, POSEVAL, JointFrame, Quirks, grouped
from service.evaluation.keypoints import KeypointAp, keypoint_ap
from service.evaluation.posetrack import pair
from service.evaluation.sequence import compare_poses
from service.formats.coco import read_coco_results, read_coco_truth, skeleton_of_truth
from service.formats.parsing import FormatError
from service.formats.posetrack import read_posetrack

_LARGEST_LIST = 1 << 20
_LONGEST_PATH = 255
_COCO_NAMES = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_medium": "APm", "ap_large": "APl",
    "ar": "AR", "ar50": "AR50", "ar75": "AR75", "ar_medium": "ARm", "ar_large": "ARl",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CocoReport:
    """COCO's metrics."""

    figures: KeypointAp

    def table(self) -> str:
        """Format the metrics as a line of names and a line of values."""
        return _lines([list(_COCO_NAMES.values()), [f"{getattr(self.figures, key):.3f}" for key in _COCO_NAMES]])

    def document(self) -> dict[str, object]:
        """All metrics by name, for orjson with OPT_SERIALIZE_NUMPY."""
        return asdict(self.figures)


@dataclass(frozen=True, slots=True)
class PeopleReport:
    """Tracking metrics of whole people. A match is a pair with an OKS of at least 0.5."""

    clear: ClearMot
    identity: Identity
    hota: Hota

    def figures(self) -> dict[str, float]:
        """The metrics that are commonly published."""
        clear = self.clear
        figures = {"MOTA": clear.mota, "IDF1": self.identity.idf1, "HOTA": self.hota.hota, "switches": clear.switches}
        return figures | {"misses": clear.misses, "false_positives": clear.false_positives}


@dataclass(frozen=True, slots=True)
class PoseTrackReport:
    """PoseTrack's metrics. joints, people: tracking metrics; None if the truth or the results have no ids."""

    ap: JointAp
    joints: JointMot | None
    people: PeopleReport | None

    def _rows(self) -> dict[str, Doubles]:
        rows = {"AP": self.ap.ap}
        if self.joints is not None:
            rows |= {"MOTA": self.joints.mota, "MOTP": self.joints.motp}
        best = self.joints or self.ap
        return rows | {"precision": best.precision, "recall": best.recall}

    def table(self) -> str:
        """Format PoseTrack's columns in percent, followed by a line about whole people."""
        rows = [["%", *GROUPS]]
        for name, values in self._rows().items():
            rows.append([name, *("-" if np.isnan(value) else f"{value:.1f}" for value in grouped(values).values())])
        text = _lines(rows)
        if self.people is None:
            return text + "\nTracking is not measured: it needs track ids in the truth and in the results."
        figures = (
            f"{name} {100 * value:.1f} %" if isinstance(value, float) else f"{value} {name.replace('_', ' ')}"
            for name, value in self.people.figures().items()
        )
        return f"{text}\nwhole people, by OKS: {', '.join(figures)}"

    def document(self) -> dict[str, object]:
        """All metrics by joint and by column, null if undefined; for orjson."""
        named: dict[str, object] = {
            name: {**dict(zip(POSETRACK_15.keypoints, values.tolist(), strict=False)), **grouped(values)}
            for name, values in self._rows().items()
        }
        return named if self.people is None else named | {"people": self.people.figures()}


def evaluate_coco(
    truth: Path, results: Path, sigmas: Floating | None = None, skeletons: Mapping[str, Skeleton] = SKELETONS
) -> CocoReport:
    """Compute AP and AR of a file of results, or of all files in a folder together. Raises FormatError.

    sigmas: (K,) of the keypoints; None for those of the skeleton of `skeletons` that the truth names.
    """
    labelled = read_coco_truth(truth, None if sigmas is None else len(sigmas), skeletons)
    sigmas = skeleton_of_truth(labelled, skeletons).sigmas if sigmas is None else sigmas
    found = [person for file in _json_files(results) for person in read_coco_results(file, len(sigmas))]
    for what, many in (("image", "images"), ("category", "categories")):
        if strange := {person[f"{what}_id"] for person in found} - {one["id"] for one in labelled[many]}:
            raise FormatError(f"{shown(results)}: the truth has no {what} {min(strange)}, which the results name")
    return CocoReport(keypoint_ap(labelled, found, sigmas))


def read_sigmas(given: str, skeletons: Mapping[str, Skeleton]) -> Floating:
    """Read sigmas, (K,): of the skeleton of that name, from a list separated by commas, or from a file with such a list
    or one of JSON. Raises FormatError.
    """
    if given in skeletons:
        return skeletons[given].sigmas
    try:
        path = Path(given)
        if len(given) <= _LONGEST_PATH and path.is_file():
            given = without_mark(read_small(path, _LARGEST_LIST)).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{shown(given)}: cannot be read as a list of sigmas") from error
    try:
        sigmas = np.array([float(word) for word in re.split(r"[,\s]+", given.strip().strip("[]").strip(", \n"))])
    except ValueError:
        known = ", ".join(skeletons)
        raise FormatError(
            f"sigmas {shown(given[:100])}: are no skeleton ({known}), no file, and no numbers such as 0.05,0.1"
        ) from None
    if not ((sigmas > 0) & (sigmas <= 1)).all():
        raise FormatError(f"sigmas {shown(given[:100])}: must be above 0 and at most 1")
    return sigmas


def evaluate_posetrack(truth: Path, results: Path, quirks: Quirks = POSEVAL) -> PoseTrackReport:
    """Compute PoseTrack's metrics of a sequence or of a folder of sequences. Results have the file names of the truth.

    Raises FormatError.
    """
    files = _json_files(truth)
    found = [results / file.name if results.is_dir() else results for file in files]
    if len(files) > 1 and not results.is_dir():
        raise FormatError(
            f"{shown(results)}: is one file, but {shown(truth)} has {len(files)}; name a folder with a file for each"
        )
    missing = [file for file in found if not file.exists()]
    if missing:
        raise FormatError(
            f"{shown(missing[0])}: is not there, one of {len(missing)} of {len(files)} sequences without results"
        )
    sequences = [pair(read_posetrack(a), read_posetrack(b)) for a, b in zip(files, found, strict=True)]
    people = [poses for frames in sequences for frame in frames for poses in (frame.truth, frame.found) if len(poses)]
    tracked = all(poses.ids is not None for poses in people)
    return PoseTrackReport(
        posetrack_map(sequences, quirks),
        posetrack_mot(sequences, quirks) if tracked else None,
        _whole_people(sequences) if tracked else None,
    )


def _whole_people(sequences: Sequence[Sequence[JointFrame]]) -> PeopleReport:
    videos = [[compare_poses(f.truth, f.found) for f in frames if f.labelled] for frames in sequences]
    return PeopleReport(clear_mot(videos), identity(videos), hota(videos))


def _json_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise FormatError(f"{shown(path)}: has no *.json")
    return files


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as lines, with the first column left-aligned and the others right-aligned."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
