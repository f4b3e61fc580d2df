"""Where `posewire image --render` draws: never over its input files."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.offline.images import drawings


def test_a_target_with_an_image_suffix_is_a_picture_and_any_other_a_folder(tmp_path: Path) -> None:
    one = [tmp_path / "a.jpg"]
    assert drawings(one, tmp_path / "drawn.PNG") == [tmp_path / "drawn.PNG"]
    assert drawings(one, tmp_path / "drawn") == [tmp_path / "drawn/a.jpg"]
    (tmp_path / "drawn.d").mkdir()
    several = [tmp_path / "a.jpg", tmp_path / "b.webp"]
    assert drawings(several, tmp_path / "drawn.d") == [tmp_path / "drawn.d/a.jpg", tmp_path / "drawn.d/b.jpg"]


@pytest.mark.parametrize(
    ("files", "target", "says"),
    [
        (["a.jpg"], "notes.txt", "notes.txt: the name must end in .jpg, .jpeg, .png, or be a folder's"),
        (["a.jpg"], "a.jpg", "a.jpg is one of the images themselves"),
        (["a.jpg", "b.png"], ".", "a.jpg is one of the images themselves"),
        (["a.jpg", "b.jpg"], "c.jpg", "name a folder"),
        (["x/a.jpg", "y/a.png"], "drawn", "2 of the images would be drawn on drawn/a.jpg"),
    ],
)
def test_input_files_and_other_drawings_are_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], target: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        drawings([Path(file) for file in files], Path(target))
