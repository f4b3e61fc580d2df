"""Skeletons of users' catalogue files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.catalogue import CatalogueError, load
from engines.skeletons import COCO_17, UNKNOWN_SIGMA, Skeleton

TOOL = """
[skeletons.tool]
keypoints = ["tip", "shaft", "left_rim", "right_rim", "cap"]
"""
MODEL = """
[models.mine]
role = "estimator"
family = "simcc"
skeleton = "tool"
source = { kind = "file", path = "a.onnx" }
input = { width = 64, height = 64 }
"""


def written(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def tool(folder: Path, more: str) -> Skeleton:
    return load([written(folder, f"{TOOL}{more}\n")], folder).skeletons["tool"]


def test_names_suffice(tmp_path: Path) -> None:
    skeleton = tool(tmp_path, "")
    assert skeleton.keypoints == ("tip", "shaft", "left_rim", "right_rim", "cap")
    assert (skeleton.limbs, skeleton.pairs) == ((), ((2, 3),))
    assert skeleton.sigmas.tolist() == pytest.approx([UNKNOWN_SIGMA] * 5)


def test_everything_can_be_given_by_name_or_number(tmp_path: Path) -> None:
    skeleton = tool(
        tmp_path,
        """
limbs = [["tip", "shaft"], [1, 4]]
pairs = [["tip", 4]]
parts = [["left_rim", "right_rim"]]
sigmas = [0.1, 0.2, 0.3, 0.4, 1]
mapping = { left_wrist = "cap", nose = ["tip", "shaft"] }
""",
    )
    assert (skeleton.limbs, skeleton.pairs, skeleton.parts) == (((0, 1), (1, 4)), ((0, 4),), ((2, 3),))
    assert skeleton.sigmas.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 1])
    assert skeleton.mapping == (("left_wrist", ("cap",)), ("nose", ("tip", "shaft")))
    assert tool(tmp_path, "sigmas = 0.2").sigmas.tolist() == pytest.approx([0.2] * 5)


def test_sigmas_are_those_of_the_nearest_kind(tmp_path: Path) -> None:
    text = '[skeletons.dog]\nkeypoints = ["left_front_knee", "Nose", "left_paw", "tail"]'
    sigmas = load([written(tmp_path, text)], tmp_path).skeletons["dog"].sigmas
    assert sigmas.tolist() == pytest.approx([0.087, 0.026, 0.089, UNKNOWN_SIGMA])
    assert pytest.approx(COCO_17.sigmas.mean(), abs=0.005) == UNKNOWN_SIGMA


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("limbs = [['tip', 'shalf']]", r"limbs\[0\]: 'shalf' is not one of the keypoints; did you mean 'shaft'\?"),
        ("limbs = [['tip', 'x9']]", r"limbs\[0\]: 'x9' is not one of the keypoints, which are tip, shaft, "),
        ("limbs = [['tip', 'cap'], [0, 5]]", r"limbs\[1\]: there is no keypoint 5; they are numbered from 0 to 4"),
        ("limbs = [[0, -1]]", r"limbs\[0\]: there is no keypoint -1"),
        ("limbs = [[0, 1.0]]", r"limbs\[0\]\[1\]: is 1.0; it must be the name of a keypoint, or its number from 0"),
        ("limbs = [[0, true]]", r"limbs\[0\]\[1\]: is True; it must be the name"),
        ("limbs = [[0]]", r"limbs\[0\]\[1\]: is missing"),
        ("limbs = [[0, 1, 2]]", r"limbs\[0\]: is \[0, 1, 2\]; "),
        ("limbs = [['tip', 'tip']]", r"limbs\[0\]: 'tip' is there twice"),
        ("limbs = [['tip', 0]]", r"limbs\[0\]: 'tip' is there twice"),
        ("limbs = [[0, 1], [1, 0]]", "limbs: 'tip-shaft' is there twice"),
        ("pairs = [[0, 1], [1, 2]]", "pairs: 'shaft' is there twice"),
        ("parts = [[0, 1], [1]]", "parts: 'shaft' is there twice"),
        ("sigmas = [0.1]", "sigmas: are 1, but there are 5 keypoints"),
        ("sigmas = [0.1, 0.1, 0.1, 0.1, 0]", r"sigmas: must be above 0 and at most 1, not 0\.0"),
        ("sigmas = nan", "sigmas: must be above 0 and at most 1, not nan"),
        ("sigmas = '0.1'", "sigmas: is '0.1'; it must be a number, or a list with one for each keypoint"),
        ("mapping = { noze = 'tip' }", "mapping noze: is no keypoint of a built-in skeleton"),
        ("mapping = { nose = 'top' }", r"mapping nose: 'top' is not one of the keypoints; did you mean 'tip'\?"),
        ("mapping = { nose = ['tip', 'cap', 'shaft'] }", "mapping nose: must be the name of a keypoint, or a "),
        ("colours = 1", "colours: is not a key here; those are keypoints, limbs, pairs, parts, sigmas, mapping"),
    ],
)
def test_keys_that_are_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[skeletons\.tool\] {message}"):
        tool(tmp_path, more)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[skeletons.a]", "keypoints: is missing"),
        ("[skeletons.a]\nkeypoints = []", r"keypoints: is \[\]; "),
        ("[skeletons.a]\nkeypoints = ['x', 'y', 'x']", "keypoints: 'x' is there twice"),
        ("[skeletons.a]\nkeypoints = ['x', ' ']", r"keypoints\[1\]: is ' '; it must be a name of at most 64 "),
        ("[skeletons.a]\nkeypoints = [1]", r"keypoints\[0\]: is 1; it must be a valid string"),
        ("[skeletons]\na = 1", r"is 1; "),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[skeletons\.a\]:? {message}"):
        load([written(tmp_path, text)], tmp_path)


@pytest.mark.parametrize("name", ["coco-17", "native"])
def test_the_names_of_built_in_skeletons_are_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(CatalogueError, match=rf"\[skeletons\.{name}\]: is the name of a built-in skeleton"):
        load([written(tmp_path, TOOL.replace("tool", name))], tmp_path)


def test_two_files_cannot_define_one_name_differently(tmp_path: Path) -> None:
    first = written(tmp_path, TOOL)
    assert "tool" in load([first, written(tmp_path, TOOL, "same.toml")], tmp_path).skeletons
    other = written(tmp_path, f"{TOOL}sigmas = 0.2", "other.toml")
    with pytest.raises(
        CatalogueError, match=r"other\.toml: \[skeletons\.tool\]: an earlier catalogue file has another"
    ):
        load([first, other], tmp_path)


def test_a_model_takes_the_skeleton_of_any_file(tmp_path: Path) -> None:
    files = [written(tmp_path, MODEL, "model.toml"), written(tmp_path, TOOL)]
    assert load(files, tmp_path)["mine"].keypoint_set == load(files, tmp_path).skeletons["tool"]
    with pytest.raises(CatalogueError, match=r"\[models\.mine\] skeleton: is 'tool'; it must be one of ap10k-17, "):
        load(files[:1], tmp_path)


def test_a_model_knows_its_built_in_skeleton(tmp_path: Path) -> None:
    models = load([], tmp_path)
    assert models["rtmpose-s"].keypoint_set is COCO_17
    assert models["rtmdet-nano"].keypoint_set is None
    assert np.array_equal(models.skeletons["coco-17"].sigmas, COCO_17.sigmas)
