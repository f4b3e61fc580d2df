"""What an operator or an admin says about a camera, as TOML or JSON."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, StringConstraints, field_validator, model_validator

from service.cameras.sources.address import SourceAddress, SourceOptions, SourceTransport
from service.streams.options import StreamOptionsMessage
from service.streams.protocol import Hello

NAME = "[a-z0-9][a-z0-9_-]{0,63}"
"""The pattern of a camera's name, which is part of URLs and of file names."""
CameraName = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]

_OF_PASSWORDS = "@=?"
"""A source with one of these may hold a password."""
_OF_IDENTITIES = ("skeleton", "zones", "lines", "rules")
"""Members that what is known of the people before a camera depends on, beside the model."""


class CameraEntry(StreamOptionsMessage):
    """A camera: its source, and the options of streams. source: never to be shown, see `address`.

    transport, verify, hardware: how it is opened, see SourceOptions.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    source: SecretStr = Field(max_length=2000, description="rtsp://, http:// or their like with TLS; never shown again")
    fps: float | None = Field(None, gt=0, le=1000, description="frames a second that are looked at, at most")
    transport: SourceTransport = Field("tcp", description="of RTSP; udp loses packets where the network does")
    verify: bool = Field(True, description="verify the certificates of rtsps:// and https:// sources")
    hardware: bool = Field(True, description="decode on a GPU where there is one")
    blur: Literal["faces"] | None = Field(None, description="blur faces in every picture of this camera")
    pictures: bool = Field(False, description="events have the URL of the newest picture; nothing is stored")
    loop: bool = Field(False, description="begin a file again when it has ended")

    _address: SourceAddress = PrivateAttr()

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: SecretStr) -> SecretStr:
        text = source.get_secret_value()
        try:
            SourceAddress.parse(text)
        except ValueError:
            if "://" in text or not any(sign in text for sign in _OF_PASSWORDS):
                raise
            raise ValueError("it is no file, device or URL; a URL is like rtsp://HOST:554/PATH") from None
        return source

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.hello()
        self._address = SourceAddress.parse(self.source.get_secret_value())
        if self.loop and self._address.kind != "file":
            raise ValueError("loop is for files alone")
        return self

    @property
    def address(self) -> SourceAddress:
        return self._address

    def source_options(self, hosts: tuple[str, ...], *, own_host: bool = True) -> SourceOptions:
        """How the source is opened. hosts: the setting `camera_hosts`. own_host: False for a camera put by the API."""
        return SourceOptions(self.transport, self.verify, self.hardware, hosts, own_host)

    @property
    def most_fps(self) -> float:
        """Frames a second that are looked at, at most."""
        return math.inf if self.fps is None else self.fps

    def hello(self) -> Hello:
        """The options of its stream. To blur faces, everybody is looked for in every frame."""
        hello = self.options(extras=True)
        return replace(hello, detect_every=0.0) if self.blur else hello

    def document(self, *, secret: bool = False) -> dict[str, Any]:
        """The members that are set, as JSON. secret: with the source, for a file that only the server reads."""
        members = self.model_fields_set - {"source"}
        options = self.model_dump(mode="json", include=members, exclude_none=True)
        return {"source": self.source.get_secret_value(), **options} if secret else options

    def fingerprint(self, model: str) -> str:
        """What identities are good for: they are kept as long as this is the same. model: that the entry leads to."""
        parts = model, *(getattr(self, name, None) for name in _OF_IDENTITIES), *filter(None, [self.group])
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
