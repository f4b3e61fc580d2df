"""Copying sound tracks from one media file to another."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from service.media.media_file import MediaFile, fraction

_HERTZ = 48_000
"""Sample rate of re-encoded sound. Opus supports few others."""
_OVERLAP_S = Fraction(1, 10)
"""Sound that overlaps the preceding sound by less than this is moved; with a longer overlap it is left out."""
_TRIAL_PACKETS = 5000
"""Packets of a file that are searched for a packet of its sound."""


class Sound:
    """Copies the sound tracks of `source` to `target`, step by step.

    Tracks that the target's format cannot hold are re-encoded with `codec`. Sound that cannot be copied is left out,
    with a message in `notes`. start: the time on the clock of `source` that becomes 0 in the target.
    Raises OSError if the target cannot be written.
    """

    def __init__(self, source: MediaFile, target: OutputContainer, codec: str, start: Fraction) -> None:
        self.notes: list[str] = []
        self._target = target
        self._start = start
        self._tracks: dict[int, _Copied | _Encoded] = {}
        if source.unknown:
            self.notes.append(f"sound tracks of an unsupported codec were left out: {source.unknown}")
        for stream in source.sounds:
            if _takes(target.format.name, source.path, stream.index):
                self._tracks[stream.index] = _Copied(target.add_stream_from_template(stream))
            else:
                made = cast("AudioStream", target.add_stream(codec, rate=_HERTZ))
                made.layout = "mono" if stream.layout.nb_channels == 1 else "stereo"
                self._tracks[stream.index] = _Encoded(made)
        self._packets = self._demux(source)
        self._next = next(self._packets, None)

    def copy(self, until: Fraction | None) -> None:
        """Copy the sound up to `until`, in seconds on the target's clock. None copies the rest."""
        while (packet := self._next) is not None:
            if until is not None and packet.pts is not None and packet.pts * packet.time_base > until:
                return
            self._copy_packet(packet.stream.index, packet)
            self._next = next(self._packets, None)
        if until is None:
            for index in tuple(self._tracks):
                self._copy_packet(index, None)

    def _demux(self, source: MediaFile) -> Iterator[av.Packet[AudioStream]]:
        """Yield the packets of the tracks, with times on the target's clock."""
        if not self._tracks:
            return
        try:
            for packet in source.packets():
                tick = fraction(packet.time_base)
                if packet.stream.index in self._tracks and tick is not None:
                    shift = round(self._start / tick)
                    packet.pts = None if packet.pts is None else packet.pts - shift
                    packet.dts = None if packet.dts is None else packet.dts - shift
                    yield cast("av.Packet[AudioStream]", packet)
        except (av.FFmpegError, OSError):  # the end of a damaged file, which VideoReader reports
            return

    def _copy_packet(self, index: int, packet: av.Packet[AudioStream] | None) -> None:
        if (track := self._tracks.get(index)) is None:
            return
        try:
            self._target.mux(track.packets(packet))
        except OSError:
            raise
        except (av.FFmpegError, ValueError):
            # The packet itself cannot be written. Drop its track and keep the video and the other tracks.
            del self._tracks[index]
            self.notes.append("the rest of a damaged sound track was left out")


def _takes(container: str, source: Path, index: int) -> bool:
    """True if a container can hold the sound unchanged. Tested by writing, as some refuse it only at the end."""
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        with MediaFile(source) as again:
            made = trial.add_stream_from_template(again.file.streams[index])
            for packet in islice(again.file.demux(), _TRIAL_PACKETS):
                if packet.stream.index == index and packet.dts is not None:
                    packet.stream = made
                    trial.mux(packet)
                    break
            trial.start_encoding()
            trial.close()
    except (av.FFmpegError, ValueError):
        return False
    return True


@dataclass(slots=True)
class _Copied:
    """A track whose packets are copied unchanged, with growing decoding times."""

    stream: AudioStream
    _raw: int | None = None
    _last: int | None = None
    _duration: int = 0

    def packets(self, packet: av.Packet[AudioStream] | None) -> list[av.Packet[AudioStream]]:
        """Return the packet for the target, or no packet if it overlaps with the one before."""
        if packet is None or packet.dts is None:
            return []
        raw = packet.dts
        if self._last is not None and raw <= self._last:
            if raw != self._raw:
                return []
            packet.dts = packet.pts = self._last + max(1, self._duration)  # the clock stands still
        self._raw, self._last, self._duration = raw, packet.dts, packet.duration or 0
        packet.stream = self.stream
        return [packet]


@dataclass(slots=True)
class _Encoded:
    """A track that is decoded and re-encoded."""

    stream: AudioStream
    _resampler: av.AudioResampler | None = None
    _end: Fraction = Fraction(-1)

    def packets(self, packet: av.Packet[AudioStream] | None) -> list[av.Packet[AudioStream]]:
        """Return the re-encoded packets. None: the packets that the encoder still holds."""
        if packet is None:
            frames = self._resampled(None)
            return [*chain.from_iterable(self.stream.encode(frame) for frame in frames), *self.stream.encode(None)]
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            return []
        made = []
        for frame in decoded:
            if self._set_time(frame):
                for piece in self._resampled(frame):
                    made += self.stream.encode(piece)
        return made

    def _set_time(self, frame: av.AudioFrame) -> bool:
        """Set a frame's time so that it does not overlap the frame before. Returns False if it must be left out."""
        if not frame.sample_rate or not frame.samples:
            return False
        tick = fraction(frame.time_base)
        time = self._end if frame.pts is None or tick is None else frame.pts * tick
        if time < self._end - _OVERLAP_S:
            return False
        time = max(time, self._end)
        if tick is None:
            frame.time_base = tick = Fraction(1, frame.sample_rate)
        frame.pts = round(time / tick)
        self._end = time + Fraction(frame.samples, frame.sample_rate)
        return True

    def _resampled(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        """Convert a frame to the encoder's format. A file's own format can change midway."""
        if self._resampler is None:
            if frame is None:
                return []
            context = self.stream.codec_context
            self._resampler = av.AudioResampler(context.format, context.layout, context.sample_rate)
        try:
            return self._resampler.resample(frame)
        except ValueError:
            rest = self._resampler.resample(None)
            self._resampler = None
            return [*rest, *self._resampled(frame)]
