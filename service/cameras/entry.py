"""What an operator or an admin says about a camera, as TOML or JSON."""

from __future__ import annotations

import math

from pydantic import ConfigDict, Field, SecretStr, field_validator

from service.cameras.sources.address import SourceAddress, SourceOptions, SourceTransport
from service.streams.options import StreamOptionsMessage
from service.streams.protocol import Hello


class CameraEntry(StreamOptionsMessage):
    """A camera: its source, and the options of streams. source: never to be shown, see `address`.

    transport, verify, hardware: how it is opened, see SourceOptions.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    source: SecretStr
    fps: float | None = Field(None, gt=0, le=1000)
    transport: SourceTransport = "tcp"
    verify: bool = True
    hardware: bool = True

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: SecretStr) -> SecretStr:
        SourceAddress.parse(source.get_secret_value())
        return source

    @property
    def address(self) -> SourceAddress:
        return SourceAddress.parse(self.source.get_secret_value())

    def source_options(self, hosts: tuple[str, ...], *, own_host: bool = True) -> SourceOptions:
        """How the source is opened. hosts: the setting `camera_hosts`. own_host: False for a camera put by the API."""
        return SourceOptions(self.transport, self.verify, self.hardware, hosts, own_host)

    @property
    def most_fps(self) -> float:
        """Frames a second that are looked at, at most."""
        return math.inf if self.fps is None else self.fps

    def hello(self) -> Hello:
        """The options of its stream. Raises ValueError if smoothing, zones or lines are not valid."""
        return self.options(extras=True)
