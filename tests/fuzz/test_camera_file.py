"""Any file of cameras, and any camera of the API, is accepted or refused with a message that has no secret."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.cameras.camera_file import CameraFile, CameraFileError
from service.cameras.entry import CameraEntry
from service.cameras.kept_cameras import KeptCameras
from tests.fuzz.budget import fuzz
from tests.fuzz.test_hello import anything, lines, zones

SECRET = "hush7261"  # noqa: S105 - a test's
MEMBERS = ("skeleton", "min_score", "smoothing", "transport", "loop")
word = st.text("abcXYZ09-_.:@/?=&%[] \n\"'\\", max_size=12)
source = st.one_of(
    st.builds(
        lambda scheme, rest: f"{scheme}://joe:{SECRET}@{rest}", st.sampled_from(["rtsp", "http", "ftp", ""]), word
    ),
    st.builds(lambda path: f"joe:{SECRET}@{path}", word),
    st.sampled_from([f"rtsp://joe:{SECRET}@10.0.0.5:554/live?token={SECRET}", f"http://10.0.0.5/key={SECRET}/x"]),
)
members = {
    "source": source,
    "zones": zones,
    "lines": lines,
    "fps": st.floats(),
    **dict.fromkeys(MEMBERS, anything),
}
camera = st.fixed_dictionaries({}, optional=members)
FOLDER = Path(tempfile.mkdtemp(prefix="posewire-fuzz-"))


def toml(value: object) -> str:
    """A value as TOML, in one line. Strings of JSON are strings of TOML."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{toml(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case None:
            return "nan"
        case float():
            return repr(value)
        case _:
            return json.dumps(value)


def read(data: bytes) -> None:
    file = FOLDER / "cameras.toml"
    file.write_bytes(data)
    found: dict[str, CameraEntry] = {}
    complaint = f"{file}"
    try:
        found = CameraFile.read(file, 5).cameras
    except CameraFileError as error:
        complaint = str(error)
    assert complaint.startswith(str(file))
    assert len(complaint) < 5000
    assert SECRET not in complaint.replace("\n", "")
    for entry in found.values():
        check(entry)
    KeptCameras(FOLDER / "kept.json").save(found, found)
    assert KeptCameras(FOLDER / "kept.json").load() == (found, frozenset(found))


def check(entry: CameraEntry) -> None:
    assert entry.hello().extras
    assert entry.most_fps > 0
    assert SECRET not in f"{entry.address.name} {entry!r} {entry.document()}"
    assert CameraEntry.model_validate(orjson.loads(orjson.dumps(entry.document(secret=True)))) == entry


@fuzz(150)
@given(st.one_of(st.binary(), st.text(alphabet="[]=\"'.#,{}\n\\ acmersou1").map(str.encode)))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    read(data)


@fuzz(150)
@given(st.dictionaries(st.one_of(word, st.sampled_from(["door", "hall-2"])), camera, max_size=4))
def test_any_cameras_are_read_or_refused(cameras: dict[str, dict[str, Any]]) -> None:
    read(f"cameras = {toml(cameras)}\n".encode(errors="replace"))


@fuzz(150)
@given(st.one_of(anything, camera))
def test_any_json_is_a_camera_or_refused(document: object) -> None:
    try:
        entry = CameraEntry.model_validate(document)
    except ValidationError as error:
        shown = [str(one["msg"]) for one in error.errors(include_url=False, include_input=False)]
        assert SECRET not in " ".join(shown)
        return
    check(entry)
