"""Invalid hellos are refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.skeletons import COCO_17
from service.api.hello import HelloMessage
from service.rules import definition
from service.rules.definition import FallRule
from service.streams.protocol import CloseCode, StreamError
from service.streams.rule_options import AngleMessage, FallMessage, RepetitionMessage, RulesMessage, SpeedMessage
from service.tracking.smoothing import OneEuroConfig


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "hello: Invalid JSON: EOF"),
        ("null", "hello: Input should be an object"),
        ("[" * 64_000, "hello: Invalid JSON: recursion limit exceeded"),
        ('{"zones":' + "[" * 60_000, "hello: Invalid JSON: recursion limit exceeded"),
        ('{"window": ' + "9" * 60_000 + "}", "hello: Invalid JSON: number out of range"),
        ('{"window": 1e3}', "window: "),
        ('{"min_score": NaN}', "min_score: Input should be a finite number"),
        ('{"min_score": 1e400}', "min_score: Input should be a finite number"),
        (
            '{"lines": [{"name": "a", "start": [0, Infinity], "end": [1, 1]}]}',
            "lines.0.start.1: Input should be a finite",
        ),
        ('{"window": 1, "window": 2}', "window: is named twice"),
        ('{"zones": [{"name": "a", "name": "b", "polygon": [[0, 0], [1, 0], [1, 1]]}]}', "name: is named twice"),
        ('{"model": "\\ud800"}', "hello: Invalid JSON: unexpected end of hex escape"),
        ('{"model": "\ud800"}', "hello: Input should be a valid string"),
        ('{"model": "' + "x" * 60_000 + '"}', "model: String should have at most 200 characters"),
        ('{"' + "x" * 60_000 + '": 1}', "x" * 50 + ": "),
        ('{"smoothing": "yes"}', "smoothing: it must be true, false, or an object with"),
        ('{"smoothing": null}', "smoothing: it must be true, false, or an object with"),
        ('{"smoothing": {"cutoff": 1}}', "smoothing.cutoff: there is no such name here"),
        ('{"smoothing": {"min_cutoff": "fast"}}', "smoothing.min_cutoff: Input should be a valid number"),
        ('{"smoothing": {"beta": NaN}}', "smoothing.beta: Input should be a finite number"),
        ('{"smoothing": {"beta": 1, "beta": 1}}', "beta: is named twice"),
        ('{"detect_every": "often"}', "detect_every: it must be auto or a number of milliseconds"),
        ('{"detect_every": null}', "detect_every: it must be auto or a number of milliseconds"),
        ('{"detect_every": -1}', "detect_every: Input should be greater than or equal to 0"),
        ('{"detect_every": 1e9}', "detect_every: Input should be less than or equal to 10000"),
        ('{"forget_seconds": -1}', "forget_seconds: Input should be greater than or equal to 0"),
        ('{"forget_seconds": 4000}', "forget_seconds: Input should be less than or equal to 3600"),
        ('{"group": "a hall"}', "group: String should match pattern '^[A-Za-z0-9._-]{1,64}$'"),
        ('{"group": ""}', "group: String should match pattern '^[A-Za-z0-9._-]{1,64}$'"),
        ('{"rules": true}', "rules: Input should be an object"),
        ('{"rules": {"angle": []}}', "rules.angle: there is no such name here"),
        ('{"rules": {"fall": 3}}', "rules.fall: it must be true, false, or an object with ignore_zones"),
        ('{"rules": {"angles": [{"name": "x", "keypoints": ["a", "b"]}]}}', "rules.angles.0.keypoints.2: "),
        ('{"rules": {"speed": {"ground": [[0, 0, 0, 0]]}}}', "rules.speed.ground: List should have at least 4 items"),
        (
            '{"rules": {"speed": {"ground": [[0, 0, 0, NaN]]}}}',
            "rules.speed.ground.0.3: Input should be a finite number",
        ),
        ('{"rules": {"repetitions": [{"name": "x", "angle": "left_knee"}]}}', "rules.repetitions.0.low: "),
        (" " * 64_001, "the hello has more than 64,000 characters"),
    ],
    ids=range(37),
)
def test_the_close_reason_describes_the_error(message: str, reason: str) -> None:
    with pytest.raises(StreamError) as refusal:
        HelloMessage.read(message)
    assert refusal.value.code is CloseCode.BAD_HELLO
    assert refusal.value.reason.startswith(reason)
    assert len(refusal.value.reason.encode()) <= 123
    assert len(str(refusal.value)) < 200


def test_the_detector_decides_by_itself_or_has_milliseconds() -> None:
    for text, every in (("{}", None), ('{"detect_every": "auto"}', None), ('{"detect_every": 200}', 0.2)):
        assert HelloMessage.read(text).checked().detect_every == every
    assert HelloMessage.read('{"detect_every": 0}').checked().detect_every == 0


def test_smoothing_is_off_on_or_has_parameters() -> None:
    def smoothing(text: str) -> OneEuroConfig | None:
        return HelloMessage.read(text).checked().smoothing

    assert smoothing("{}") is None
    assert smoothing('{"smoothing": false}') is None
    assert smoothing('{"smoothing": true}') == smoothing('{"smoothing": {}}') == OneEuroConfig()
    assert smoothing('{"smoothing": {"min_cutoff": 0.5}}') == OneEuroConfig(min_cutoff=0.5)
    assert smoothing('{"smoothing": {"min_cutoff": 2, "beta": 0}}') == OneEuroConfig(2, 0)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"smoothing": {"min_cutoff": 0}}', "smoothing: min_cutoff is 0; it must be in 0.01..100"),
        ('{"smoothing": {"beta": -1}}', "smoothing: beta is -1; it must be in 0..1000"),
    ],
)
def test_parameters_of_smoothing_have_a_range(message: str, reason: str) -> None:
    with pytest.raises(StreamError) as refusal:
        HelloMessage.read(message).checked()
    assert refusal.value.code is CloseCode.BAD_HELLO
    assert refusal.value.reason == reason


def test_an_api_key_is_in_no_reason() -> None:
    with pytest.raises(StreamError) as refusal:
        HelloMessage.read('{"key": "the key", "resume": "' + "x" * 300 + '"}')
    assert refusal.value.reason.startswith("resume: ")
    assert "the key" not in repr(HelloMessage.read('{"key": "the key"}'))


def test_people_are_remembered_for_a_minute_unless_the_client_says_otherwise() -> None:
    for text, seconds in (("{}", 60), ('{"forget_seconds": 5.5}', 5.5), ('{"forget_seconds": 0}', 0)):
        assert HelloMessage.read(text).checked().tracking.forget_seconds == seconds


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ('{"angles": [{"name": "left_tail"}]}', "rules: no angle is called 'left_tail'; give it three keypoints"),
        (
            '{"angles": [{"name": "x", "keypoints": ["nose", "tail", "left_hip"]}]}',
            "rules: the model's skeleton coco",
        ),
        ('{"fall": {"ignore_zones": ["bed"]}}', "rules.fall: no zone is called 'bed'; there are no zones"),
        ('{"repetitions": [{"name": "x", "angle": "tail", "low": 1, "high": 90}]}', "rules: no angle is called 'tail'"),
        (
            '{"repetitions": [{"name": "x", "angle": "left_hip", "low": 90, "high": 9}]}',
            "rules: repetition 'x': low",
        ),
        ('{"speed": {"ground": [[0,0,0,0], [1,0,1,0], [1,1,1,1], [0,1,1,1]]}}', "rules: ground: two of the points"),
        ('{"counts": true}', "rules.counts: there are no zones or lines to count at"),
    ],
)
def test_the_close_reason_describes_rules_that_cannot_work(rules: str, reason: str) -> None:
    with pytest.raises(StreamError) as refusal:
        HelloMessage.read(f'{{"rules": {rules}}}').checked(COCO_17)
    assert refusal.value.code is CloseCode.BAD_HELLO
    assert refusal.value.reason.startswith(reason)


def test_rules_may_be_written_as_the_message_that_says_them() -> None:
    message = {
        "angles": [{"name": "left_knee"}, {"name": "neck", "keypoints": ["nose", "left_shoulder", "left_hip"]}],
        "posture": True,
        "fall": {"ignore_zones": ["bed"]},
        "repetitions": [{"name": "squats", "angle": "left_knee", "low": 100, "high": 160}],
        "occupancy": True,
        "counts": True,
        "speed": {"ground": [[0, 0, 0, 0], [1, 0, 4, 0], [1, 1, 4, 3], [0, 1, 0, 3]]},
    }
    zones = [{"name": "bed", "polygon": [[0, 0], [1, 0], [1, 1]]}]
    rules = HelloMessage.read(json.dumps({"rules": message, "zones": zones})).checked(COCO_17).rules
    assert rules.fall == FallRule(("bed",))
    assert RulesMessage.of(rules).rules() == rules
    assert not HelloMessage.read('{"rules": {"fall": false}}').checked().rules


def test_every_member_of_rules_is_documented() -> None:
    page = (Path(definition.__file__).parent / "rules.md").read_text("utf-8")
    for model in (RulesMessage, AngleMessage, FallMessage, RepetitionMessage, SpeedMessage):
        assert all(f'"{name}"' in page for name in model.model_fields)
    example = page.split("```json\n")[1].split("```")[0]
    assert HelloMessage.read(example).checked(COCO_17).rules
