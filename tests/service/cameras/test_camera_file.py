"""The file of cameras: what it may hold, and what is said about what it may not, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cameras.camera_file import CameraFile, CameraFileError
from service.cameras.entry import CameraEntry

SECRET = "hush-7261"  # noqa: S105 - a test's


def read(folder: Path, text: str | bytes, most: int = 10) -> CameraFile:
    file = folder / "cameras.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return CameraFile.read(file, most)


def test_a_file_has_cameras_with_the_options_of_streams(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f"""
        [cameras.door]
        source = "rtsp://joe:{SECRET}@10.0.0.5:554/live?token={SECRET}"
        model = "pair"
        fps = 5
        smoothing = true
        detect_every = 200
        zones = [{{name = "bed", polygon = [[0, 0], [1, 0], [1, 1]], dwell_seconds = 2}}]

        [[cameras.hall.lines]]
        name = "exit"
        start = [0, 0]
        end = [1, 1]
        [cameras.hall]
        source = "http://10.0.0.6/video.mjpg"
        blur = "faces"
        """,
    ).cameras
    door, hall = found["door"], found["hall"]
    assert (door.most_fps, door.blur, hall.blur, door.hello().detect_every) == (5, None, "faces", 0.2)
    assert door.address.name == "rtsp://10.0.0.5:554/live?..."
    assert [zone.name for zone in door.hello().zones] == ["bed"]
    assert [line.name for line in hall.hello().lines] == ["exit"]
    assert SECRET not in repr(found) + str(door) + str(door.document())
    assert door.document()["fps"] == 5
    assert CameraEntry.model_validate(door.document(secret=True)) == door


def test_an_empty_file_has_no_cameras(tmp_path: Path) -> None:
    assert read(tmp_path, "# none yet\n").cameras == {}


SOURCE = f'source = "rtsp://joe:{SECRET}@10.0.0.5/"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[cameras.a]\n", "cameras.a.source: Field required"),
        ("[cameras]\na = 5\n", "cameras.a: Input should be a valid dictionary"),
        (f"[cameras.a]\n{SOURCE}fps = 0\n", "cameras.a.fps: Input should be greater than 0"),
        (f"[cameras.a]\n{SOURCE}fsp = 1\n", "cameras.a.fsp: there is no such name here"),
        (f"[cameras.a]\n{SOURCE}blur = 'all'\n", "cameras.a.blur: Input should be 'faces'"),
        (f"[cameras.a]\n{SOURCE}loop = true\n", "cameras.a: loop is for files alone"),
        (f"[cameras.a]\n{SOURCE}smoothing = 5\n", "cameras.a.smoothing: it must be true, false, or an object"),
        (f"[cameras.a]\n{SOURCE}smoothing = {{min_cutoff = -1}}\n", "cameras.a: smoothing: "),
        (f"[cameras.a]\n{SOURCE}zones = [{{name = 'z', polygon = [[0, 0]]}}]\n", "cameras.a.zones.0.polygon: "),
        (f"[cameras.A]\n{SOURCE}", "cameras.A: a name has a-z, 0-9, - and _"),
        (f"[cameras.'a b']\n{SOURCE}", "cameras.a b: a name has"),
        (f"[cameras.'a/../b']\n{SOURCE}", "cameras.a/../b: a name has"),
        (f"[camera.a]\n{SOURCE}", "camera: there is no such name here"),
        (f"[cameras.a]\nsource = 'joe:{SECRET}@10.0.0.5'\n", "cameras.a.source: it is no file, device or URL"),
        (f"[cameras.a]\nsource = 'ftp://joe:{SECRET}@10.0.0.5'\n", "cameras.a.source: a source cannot begin with"),
        (f"[cameras.a]\nsource = 'rtsp://joe:{SECRET}@'\n", "cameras.a.source: the source is no valid URL"),
        (f"[cameras.a]\nsource = ['rtsp://joe:{SECRET}@x/']\n", "cameras.a.source: Input should be a valid string"),
        (f"[cameras.a]\n{SOURCE[:-2]}\n", "is no TOML: "),
        (f"{SOURCE}[cameras.a]\n{SOURCE}", "source: there is no such name here"),
        (f"[cameras.a]\n{SOURCE}{SOURCE}", "is no TOML: Cannot overwrite a value"),
        (b"\xff\xfe[cameras]", "is no TOML: "),
        ("x = " + "[" * 5000, "is no TOML: it is nested too deep"),
        ("x = " + "9" * 5000, "is no TOML: "),
        ("".join(f"[cameras.c{n}]\n{SOURCE}fps = -1\n" for n in range(10)), "; and 2 more"),
        ("".join(f"[cameras.c{n}]\n{SOURCE}" for n in range(11)), "has 11 cameras; max_cameras allows 10"),
    ],
)
def test_what_is_wrong_is_named_without_secrets(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(CameraFileError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "cameras.toml"))
    assert complaint in str(error.value)
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CameraFileError, match=r"none.toml cannot be read: No such file"):
        CameraFile.read(tmp_path / "none.toml", 10)
    with pytest.raises(CameraFileError, match="cannot be read: Is a directory"):
        CameraFile.read(tmp_path, 10)


def test_identities_fit_an_entry_until_what_they_depend_on_changes() -> None:
    def entry(**others: object) -> CameraEntry:
        return CameraEntry.model_validate({"source": "rtsp://10.0.0.5/", **others})

    line = {"name": "exit", "start": [0, 0], "end": [1, 1]}
    first = entry().fingerprint("pair")
    assert entry(source="rtsp://10.0.0.6/", fps=3, min_score=0.1, smoothing=True).fingerprint("pair") == first
    others = [entry().fingerprint("tiny"), entry(lines=[line]).fingerprint("pair")]
    others.append(entry(skeleton="coco").fingerprint("pair"))
    assert len({first, *others}) == 4
