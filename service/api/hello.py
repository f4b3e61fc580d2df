"""The hello, the first message of a stream or of a watcher of a camera, as JSON."""

from __future__ import annotations

import json
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from engines.skeletons import Skeleton
from service.media.video_decoder import VideoCodec
from service.streams.options import StreamOptionsMessage, complaint
from service.streams.protocol import CloseCode, Hello, StreamError

Message = TypeVar("Message", bound=BaseModel)

_LONGEST = 64_000
"""Characters of a hello."""
_LONGEST_MEMBER = 50
"""Characters of a member's name in a close reason, so that there is room for the error."""


class HelloMessage(StreamOptionsMessage):
    """All members are optional."""

    type: Literal["hello"] = "hello"
    format: Literal["json", "msgpack"] | None = None
    window: int = Field(8, ge=0, le=64)
    timestamps: bool = False
    extras: bool = False
    video: VideoCodec | None = None
    resume: str = Field("", max_length=200)
    key: SecretStr = SecretStr("")

    @staticmethod
    def read(message: str | bytes) -> HelloMessage:
        """Parse a hello. Raises StreamError if the message is not a valid one."""
        return _read(HelloMessage, message)

    def checked(self, skeleton: Skeleton | None = None) -> Hello:
        """Return the hello for `service.streams`.

        skeleton: of the model, None if it is not known yet. Raises StreamError if smoothing, zones, lines or rules are
        not valid, or if the skeleton lacks keypoints that rules need.
        """
        try:
            options = self.options(
                window=self.window,
                timestamps=self.timestamps,
                extras=self.extras,
                video=self.video,
                resume=self.resume,
            )
            if skeleton is not None:
                options.rules.check_skeleton(skeleton)
            return options
        except ValueError as error:
            raise StreamError(CloseCode.BAD_HELLO, str(error)) from error


class WatchMessage(BaseModel):
    """The hello of a watcher of a camera. All members are optional. fps: the most results a second."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: Literal["hello"] = "hello"
    format: Literal["json", "msgpack"] | None = None
    window: int = Field(8, ge=0, le=64)
    fps: float | None = Field(None, ge=0.01, le=1000)
    key: SecretStr = SecretStr("")

    @staticmethod
    def read(message: str | bytes) -> WatchMessage:
        """Parse a hello. Raises StreamError if the message is not a valid one."""
        return _read(WatchMessage, message)


def _read(model: type[Message], message: str | bytes) -> Message:
    if isinstance(message, bytes):
        raise StreamError(CloseCode.BAD_MESSAGE, "the first message is the hello: JSON, as text")
    if len(message) > _LONGEST:
        raise StreamError(CloseCode.BAD_HELLO, f"the hello has more than {_LONGEST:,} characters")
    try:
        hello = model.model_validate_json(message)
        json.loads(message, object_pairs_hook=_check_unique)
        return hello
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        member = ".".join(str(part) for part in first["loc"])
        raise StreamError(CloseCode.BAD_HELLO, f"{member[:_LONGEST_MEMBER] or 'hello'}: {complaint(first)}") from error


def _check_unique(members: list[tuple[str, object]]) -> None:
    """Raise StreamError if an object has a member twice."""
    names = [name for name, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise StreamError(CloseCode.BAD_HELLO, f"{name[:_LONGEST_MEMBER]}: is named twice")
