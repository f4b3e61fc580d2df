"""Catalogue files that are refused: the message names the file, the entry, the key and the allowed values."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.catalogue import CatalogueError
from engines.catalogue import models as catalogue
from tests.engines.catalogue.entries import estimator


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 3", "models: is 3; it must be a table"),
        ("model = {}", "model: is not a key here; those are models, skeletons, defaults"),
        ("defaults = ['none']", "defaults: is 'none'; it must be one of blazepose, "),
        ("defaults = [1]", r"defaults\[0\]: is 1; it must be a valid string"),
        ("[models]\na = 1", r"\[models.a\]: is 1; it must be a table"),
        ("[models.'a/b']\n", r"\[models.a/b\] name: is 'a/b'; it must be of the form"),
        ("[models.a]\n", r"\[models.a\] role: is missing"),
        (
            "[models.a]\nrole = 'Detector'",
            r"\[models.a\] role: is 'Detector'; it must be 'detector', 'estimator', 'one-stage', 'bottom-up' or 'embed",
        ),
        ("not toml", "is not TOML"),
    ],
)
def test_files_that_are_refused(own: Path, tmp_path: Path, text: str, message: str) -> None:
    own.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError, match=rf"own\.toml: {message}"):
        catalogue.load([own], tmp_path)


HTTPS = '{ kind = "https", url = "https://models.example/a.zip" }'
FILES = 'files = [{ path = "a" }]'
ZIPPED = "files = [{ path = 'm', archive = 'z' }]"


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("3", "", "source: is 3; it must be a table"),
        ("{}", "", "source kind: is missing; it must be one of checkpoint, file, https, npm, pypi"),
        ('{ kind = "ftp" }', "", "source kind: is 'ftp'; it must be one of checkpoint, file, https, npm, pypi"),
        ('{ kind = "file" }', "", "source path: is missing"),
        (
            '{ kind = "checkpoint", url = "https://a.example/b", file = "c.pth" }',
            "",
            "source architecture: a checkpoint has either this or export",
        ),
        ('{ kind = "https", url = "http://a.example/b" }', FILES, "source url: is .* it must be an https:// address"),
        (
            '{ kind = "https", url = "https://a.example/b", sha = "" }',
            FILES,
            "source sha: is not a key here; those are",
        ),
        ('{ kind = "pypi", package = "-r", version = "1" }', FILES, "source package: is '-r'; it must be of the form"),
        (
            '{ kind = "npm", package = "@a/../b", version = "1.0.0" }',
            FILES,
            "source package: is '@a/../b'; it must be of",
        ),
        (
            '{ kind = "npm", package = "--a", version = "1.0.0" }',
            FILES,
            "source package: is '--a'; it must be of the form",
        ),
        (
            '{ kind = "npm", package = "a", version = "latest" }',
            FILES,
            "source version: is 'latest'; it must be of the",
        ),
        ('{ kind = "npm", package = "a", version = "1.0" }', FILES, "source version: is '1.0'; it must be of the form"),
        (
            '{ kind = "file", path = "a" }',
            "files = [{ path = 'm', archive = 'z' }]",
            "files: archive is a key for members",
        ),
        (
            '{ kind = "https", url = "https://a.example/b/" }',
            "files = [{ path = 'm', archive = 'z' }]",
            "files: archive is a key for members of wheels, npm packages and zips",
        ),
        (HTTPS, "files = [{ path = 'm', archive = '../z' }]", r"files\[0\] archive: is '../z'; it must be relative"),
        (HTTPS, "", "files: must be a list of one or more tables"),
        (HTTPS, "files = []", "files: must be a list of one or more tables"),
        (HTTPS, "files = ['a']", r"files\[0\]: is 'a'; it must be a table"),
        (HTTPS, "files = [{ path = '../a' }]", r"files\[0\] path: is '../a'; it must be relative"),
        (HTTPS, "files = [{ path = '/a' }]", r"files\[0\] path: is '/a'; it must be relative"),
        (HTTPS, "files = [{ path = '' }]", r"files\[0\] path: is ''; it must be relative"),
        (HTTPS, "files = [{ path = 'a', sha256 = 'AB' }]", r"files\[0\] sha256: is 'AB'; it must be of the form"),
        (HTTPS, f"{FILES}\nlicense = 'MIT'", "license: is not a key here; those are role, source, title, family, .*"),
        (HTTPS, f"{FILES}\ntitle = 1", "title: is 1; it must be a valid string"),
        (HTTPS, f"{FILES}\noptions = []", r"options: is \[\]; it must be a table"),
        (HTTPS, f"{FILES}\ndetector = 'rtmpose-s'", "detector: is 'rtmpose-s'; it must be one of blazepose-detector, "),
    ],
)
def test_entries_that_are_refused(own: Path, tmp_path: Path, source: str, more: str, message: str) -> None:
    own.write_text(estimator("a", source, more), encoding="utf-8")
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[models\.a\] {message}"):
        catalogue.load([own], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"coco-17"', '"coco"', "skeleton: is 'coco'; it must be one of ap10k-17, blazepose-33, coco-17, "),
        ('"estimator"', '"detector"', "skeleton: is not a key of a detector"),
        ("true", "1", "commercial: is 1; it must be a valid boolean"),
        ("width = 192", "width = 0", "input width: is 0; it must be greater than or equal to 1"),
        ("width = 192", "width = true", "input width: is True; it must be a valid integer"),
        ("width = 192,", "", "input width: is missing"),
        ("256", '256, order = "RGB"', "input order: is 'RGB'; it must be 'rgb' or 'bgr'"),
        ("256", "256, mean = [0, 0]", r"input mean\[2\]: is missing"),
        ("256", "256, std = [1, 0, 1]", r"input std\[1\]: is 0; it must be greater than 0"),
        ("256", "256, pad = 300", "input pad: is 300; it must be a whole number from 0 to 255"),
        ("256", "256, depth = 3", "input depth: is not a key here; those are height, width, order, mean, std, pad"),
    ],
)
def test_values_that_are_refused(own: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = estimator("a", HTTPS, FILES)
    assert old in text
    own.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(CatalogueError, match=rf"own\.toml: \[models\.a\] {message}"):
        catalogue.load([own], tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        catalogue.load([tmp_path / "none.toml"], tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(CatalogueError, match=r"latin\.toml: is not TOML"):
        catalogue.load([tmp_path / "latin.toml"], tmp_path)


_MINE = """[models.mine]
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
source = { kind = "file", path = "PATH" }
input = { width = 64, height = 64 }
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_accepted(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.toml").write_bytes(_MINE.encode(encoding))
    assert "mine" in catalogue.load([tmp_path / "mine.toml"], tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_MINE.replace("PATH", "~nobody-of-this-name/a"), "source path: is '~nobody-of-this-name/a'; there is no such"),
        (_MINE.replace("PATH", "a\\u0000"), "source path: is "),
        ("x = " + "9" * 5000, "is not TOML (a number in it has thousands of digits)"),
        ("x = " + "[" * 5000, "is not a catalogue (its lists or tables are nested too deep)"),
        ("a = 1\nb = ", "is not TOML (see "),
        (b"a = '\xff'", "is not TOML (it is not UTF-8 from byte 5 on)"),
    ],
)
def test_errors_of_odd_catalogues_are_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    (tmp_path / "mine.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CatalogueError) as caught:
        catalogue.load([tmp_path / "mine.toml"], tmp_path)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_a_path_that_is_not_a_file_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        catalogue.load([Path(path)], tmp_path)
