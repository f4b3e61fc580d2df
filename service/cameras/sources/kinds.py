"""The kinds of sources. Each is a small class with one method, `run`, which reads the source until it ends or fails.

They run in a process of their own, see `reader`: what FFmpeg does cannot be interrupted, only killed. Nobody here tries
again or waits for a time; `camera.Camera` does that for all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from av.container import InputContainer

from service.cameras.sources.address import SourceKind, SourceOptions
from service.cameras.sources.addresses import trusted_certificates
from service.cameras.sources.connections import confine_connections
from service.cameras.sources.decoding import Opened, SourceInfo, read_frames
from service.cameras.sources.errors import SourceError
from service.cameras.sources.newest import NewestFrame
from service.cameras.sources.srt import srt_stream

__all__ = ["SOURCES", "CameraSource", "Opened", "SourceError", "SourceInfo"]

_LIVE = {"fflags": "nobuffer", "fpsprobesize": "0", "probesize": str(1 << 20), "analyzeduration": "2000000"}
"""Of live sources: keep nothing back, and decide within 2 s or 1 MiB what they are."""
_RTSP = {"protocol_whitelist": "rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto", "format_whitelist": "rtsp,mpegts,asf,rdt"}
_HTTP_FORMATS = "mpjpeg,jpeg_pipe,mjpeg,mpegts,mov,matroska,flv,h264,hevc,ogg,mpeg"
_HLS_FORMATS = "hls,mpegts,mov,aac,mp3,ac3,eac3,webvtt"
_NO_PROTOCOL = "none"
"""What FFmpeg itself may open for a source that Python reads for it."""
_PLAYLISTS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl")
_MULTIPART = "multipart/x-mixed-replace"


class CameraSource(Protocol):
    """Something that gives frames."""

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """Decode every frame into `newest` until the source ends. Raises SourceError.

        opened: called once, before the first frame.
        """


@dataclass(frozen=True, slots=True)
class RtspSource:
    """A camera's stream by RTSP. FFmpeg speaks it, in a thread that can connect to allowed addresses alone."""

    url: str
    how: SourceOptions

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        parts = urlsplit(self.url)
        connections = confine_connections(parts.hostname or "", parts.port or 554, self.how)
        options = {**_LIVE, **_RTSP, "rtsp_transport": self.how.transport}
        if self.how.transport == "tcp":
            options["max_delay"] = "0"
        if self.how.verify:
            options |= {"tls_verify": "1", "ca_file": trusted_certificates()}
        try:
            read_frames(self.url, newest, opened, play=_never, hardware=self.how.hardware, options=options)
        except SourceError as error:
            raise SourceError(connections.refused or str(error)) from error


@dataclass(frozen=True, slots=True)
class HttpSource:
    """MJPEG, HLS, or anything else that FFmpeg reads by HTTP. HLS arrives in pieces of seconds, and is played."""

    url: str
    how: SourceOptions

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        from service.cameras.sources.web import Web  # slow to import

        hosts = self.how.allowed(urlsplit(self.url).hostname or "")
        with Web(self.url, hosts, verify=self.how.verify) as web:

            def decoded() -> None:
                web.undecoded = 0

            file = web.open(self.url)
            form = _form(file.content_type, file.name)
            formats = _HLS_FORMATS if form == "hls" else _HTTP_FORMATS
            options = {**_LIVE, "protocol_whitelist": _NO_PROTOCOL, "format_whitelist": formats}
            if form == "hls":
                options["http_persistent"] = "0"
            read_frames(
                file,
                newest,
                opened,
                play=_is_played,
                hardware=self.how.hardware,
                progress=decoded,
                format=form,
                options=options,
                io_open=web.open_piece,
            )


@dataclass(frozen=True, slots=True)
class SrtSource:
    """A stream by SRT, in which MPEG-TS is."""

    url: str
    how: SourceOptions

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        options = {**_LIVE, "protocol_whitelist": _NO_PROTOCOL, "format_whitelist": "mpegts"}
        with srt_stream(self.url, self.how) as stream:
            read_frames(
                stream, newest, opened, play=_never, hardware=self.how.hardware, format="mpegts", options=options
            )


@dataclass(frozen=True, slots=True)
class VideoFileSource:
    """A video file, played at its own speed."""

    path: str
    how: SourceOptions

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        options = {"protocol_whitelist": "file"}
        read_frames(f"file:{self.path}", newest, opened, play=_always, hardware=self.how.hardware, options=options)


@dataclass(frozen=True, slots=True)
class DeviceSource:
    """A camera of this machine, by Video4Linux."""

    path: str
    how: SourceOptions

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        if not sys.platform.startswith("linux"):
            raise SourceError("cameras of this machine can be read on Linux alone; use an rtsp:// or http:// source")
        if not Path(self.path).exists():
            raise SourceError("there is no such camera")
        read_frames(self.path, newest, opened, play=_never, hardware=self.how.hardware, format="v4l2")


SOURCES: Mapping[SourceKind, Callable[[str, SourceOptions], CameraSource]] = {
    "rtsp": RtspSource,
    "http": HttpSource,
    "srt": SrtSource,
    "file": VideoFileSource,
    "device": DeviceSource,
}


def _form(content_type: str, url: str) -> str | None:
    """The format of a response, or None if FFmpeg has to find it out."""
    if content_type in _PLAYLISTS or urlsplit(url).path.lower().endswith((".m3u8", ".m3u")):
        return "hls"
    return "mpjpeg" if content_type == _MULTIPART else None


def _always(_: InputContainer) -> bool:
    return True


def _never(_: InputContainer) -> bool:
    return False


def _is_played(container: InputContainer) -> bool:
    return "hls" in container.format.name.split(",") or bool(container.duration)
