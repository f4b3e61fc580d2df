"""The rules that a client or an operator may choose for a stream or a camera, as JSON or TOML."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.rules.definition import AngleRule, FallRule, RepetitionRule, Rules
from service.rules.ground import GroundPlane
from service.rules.state import MOST_REPETITIONS

_MOST_ANGLES = 32

Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AngleMessage(_Message):
    """An angle. keypoints: None for a named one."""

    name: Name
    keypoints: tuple[Name, Name, Name] | None = None

    def rule(self) -> AngleRule:
        return AngleRule.named(self.name) if self.keypoints is None else AngleRule(self.name, self.keypoints)


class FallMessage(_Message):
    """Falls, but not in some zones."""

    ignore_zones: list[Name] = Field([], max_length=32)


class RepetitionMessage(_Message):
    """Repetitions of a movement. angle: the name of one in `angles`, or of a named one. low, high: degrees."""

    name: Name
    angle: Name
    low: float
    high: float


class SpeedMessage(_Message):
    """Speeds. ground: four points of the floor, as x, y in shares of the picture and x, y in metres."""

    ground: list[tuple[float, float, float, float]] = Field(min_length=4, max_length=4)


def _read_fall(value: object) -> object:
    """Turn true into no zones and false into None."""
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict | FallMessage | None):
        raise PydanticCustomError("fall", "it must be true, false, or an object with ignore_zones")
    return value


class RulesMessage(_Message):
    """All members are optional."""

    angles: list[AngleMessage] = Field([], max_length=_MOST_ANGLES)
    posture: bool = False
    fall: Annotated[FallMessage | None, BeforeValidator(_read_fall)] = None
    repetitions: list[RepetitionMessage] = Field([], max_length=MOST_REPETITIONS)
    occupancy: bool = False
    counts: bool = False
    speed: SpeedMessage | None = None

    def rules(self) -> Rules:
        """Return the rules for `service.rules`. Raises ValueError if one is not valid."""
        try:
            angles = tuple(angle.rule() for angle in self.angles)
            known = {angle.name: angle for angle in angles}
            repetitions = tuple(
                RepetitionRule(each.name, known.get(each.angle) or AngleRule.named(each.angle), each.low, each.high)
                for each in self.repetitions
            )
            ground = None if self.speed is None else GroundPlane(tuple(self.speed.ground))
        except ValueError as error:
            raise ValueError(f"rules: {error}") from error
        fall = None if self.fall is None else FallRule(tuple(self.fall.ignore_zones))
        return Rules(angles, self.posture, fall, repetitions, self.occupancy, self.counts, ground)

    @staticmethod
    def of(rules: Rules) -> RulesMessage:
        """Return rules as the message that says them. Angles that only repetitions use become angles."""
        angles = dict.fromkeys((*rules.angles, *(repetition.angle for repetition in rules.repetitions)))
        return RulesMessage(
            angles=[AngleMessage(name=angle.name, keypoints=angle.keypoints) for angle in angles],
            posture=rules.posture,
            fall=FallMessage(ignore_zones=list(rules.fall.ignore_zones)) if rules.fall else None,
            repetitions=[
                RepetitionMessage(name=each.name, angle=each.angle.name, low=each.low, high=each.high)
                for each in rules.repetitions
            ],
            occupancy=rules.occupancy,
            counts=rules.counts,
            speed=None if rules.ground is None else SpeedMessage(ground=list(rules.ground.points)),
        )
