"""Downloads from a real server on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from engines.catalogue.fetch import https
from engines.catalogue.fetch.sources import FetchError, permitted
from tests.engines.catalogue.fetch.publisher import CONTENT, Publisher


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "download.part"


def break_off(publisher: Publisher, part: Path) -> None:
    """Write the beginning of a download to `part`."""
    publisher.break_after = 300_000
    with pytest.raises(FetchError, match=r"the download from 127\.0\.0\.1 broke off: .*; start it again"):
        https.download(publisher.url(), part, label="")
    assert 0 < part.stat().st_size <= 300_000
    publisher.break_after = None


@pytest.mark.parametrize("version", [("ETag", '"1"'), ("Last-Modified", "Tue, 01 Sep 2026 10:00:00 GMT")])
def test_a_broken_download_is_resumed(part: Path, publisher: Publisher, version: tuple[str, str]) -> None:
    publisher.version = version
    break_off(publisher, part)
    have, seen = part.stat().st_size, list[tuple[int, int | None, str]]()
    https.download(publisher.url(), part, label="a model", progress=lambda *call: seen.append(call))
    assert part.read_bytes() == CONTENT
    assert publisher.asked_start(1) == have
    assert (seen[0], seen[-1]) == ((have, len(CONTENT), "a model"), (len(CONTENT), len(CONTENT), "a model"))
    assert list(part.parent.iterdir()) == [part]


@pytest.mark.parametrize("why", ["no ranges", "wrong range", "other version", "weak version", "no version"])
def test_a_download_that_cannot_be_resumed_starts_over(part: Path, publisher: Publisher, why: str) -> None:
    if why in ("weak version", "no version"):
        publisher.version = ("ETag", 'W/"1"') if why == "weak version" else None
    break_off(publisher, part)
    publisher.ranges = why != "no ranges"
    publisher.shift = -1 if why == "wrong range" else 0
    if why == "other version":
        publisher.content, publisher.version = CONTENT[::-1], ("ETag", '"2"')
    https.download(publisher.url(), part, label="")
    assert part.read_bytes() == publisher.content
    assert publisher.asked_start(-1) == 0 or why in ("no ranges", "other version")


def test_a_complete_part_is_not_downloaded_again(part: Path, publisher: Publisher) -> None:
    part.write_bytes(CONTENT)
    part.with_name("download.part.version").write_text('"1"', "utf-8")
    https.download(publisher.url(), part, label="")
    assert part.read_bytes() == CONTENT
    assert len(publisher.asked) == 1


def test_a_part_that_is_too_long_is_dropped(part: Path, publisher: Publisher) -> None:
    part.write_bytes(CONTENT + b"more")
    part.with_name("download.part.version").write_text('"1"', "utf-8")
    https.download(publisher.url(), part, label="")
    assert part.read_bytes() == CONTENT
    assert [publisher.asked_start(0), publisher.asked_start(1)] == [len(CONTENT) + 4, 0]


def test_a_refusal_of_the_server_is_reported(part: Path, publisher: Publisher) -> None:
    publisher.status = 404
    with pytest.raises(FetchError, match=r"model\.onnx answered 404 Not Found; see whether"):
        https.download(publisher.url(), part, label="")
    assert not part.exists()


def test_an_unreachable_server_is_named(part: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/model.onnx"
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 could not be reached: Connection refused; check the network"):
        https.download(url, part, label="")


def test_a_connection_times_out(part: Path) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # fills its queue, so that the next connection gets no answer
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with pytest.raises(FetchError, match=r"could not be reached: no answer within 0\.2 s"):
            https.download(f"http://127.0.0.1:{full.getsockname()[1]}/a", part, label="", connect_timeout=0.2)


def test_redirects_lead_to_https_only(part: Path, publisher: Publisher) -> None:
    publisher.status, publisher.location = 302, "http://models.example/model.onnx"
    with pytest.raises(FetchError, match=r"leads to http://models\.example/model\.onnx, which is not HTTPS"):
        https.download(publisher.url(), part, label="")
    publisher.location = publisher.url()
    with pytest.raises(FetchError, match="cannot be downloaded: too many redirects"):
        https.download(publisher.url(), part, label="")


@pytest.mark.parametrize(
    ("url", "first", "allowed"),
    [
        ("https://models.example/a", None, True),
        ("https://mirror.example/a", "https://models.example/a", True),
        ("http://models.example/a", None, False),
        ("http://localhost:8080/a", None, True),
        ("http://[::1]/a", "http://127.0.0.1/a", True),
        ("http://127.0.0.1/a", "https://models.example/a", False),
        ("http://127.0.0.1.models.example/a", None, False),
        ("https:///a", None, False),
        ("https://[::1/a", None, False),
        ("file:///etc/passwd", None, False),
        ("ftp://models.example/a", None, False),
    ],
)
def test_permitted_addresses(url: str, first: str | None, allowed: bool) -> None:
    assert permitted(url, first) is allowed


@pytest.mark.parametrize("announced", [True, False])
def test_the_size_of_a_download_is_bounded(part: Path, publisher: Publisher, announced: bool) -> None:
    publisher.announce_length = announced
    https.download(publisher.url(), part, label="", max_bytes=len(CONTENT))
    part.unlink()
    with pytest.raises(FetchError, match="larger than the 1000000 bytes"):
        https.download(publisher.url(), part, label="", max_bytes=1_000_000)
    assert not part.exists()
