"""What Home Assistant is told about a camera, so that its sensors appear by themselves (MQTT device discovery)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service import __version__
from service.events.event import event_id

KINDS = ("enter", "leave", "dwell", "cross", "fall", "posture", "repetition")
"""Kinds of events that Home Assistant is told of; it ignores others."""

_FALL_SECONDS = 30
"""How long the sensor of falls is on after a fall."""


def slug(text: str) -> str:
    """A name that Home Assistant accepts in topics and ids, different for different texts."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", text)
    return plain if plain == text else f"{plain}_{event_id(text)[:6]}"


def camera_config(
    device: str, name: str, zones: Iterable[str], base: str, availability: Sequence[str]
) -> dict[str, Any]:
    """The message that announces a camera. device: its id. zones: those with occupancy. base: of the camera's topics.

    availability: topics, all of which must say `online`.
    """
    me = device
    people = {
        "platform": "sensor",
        "unique_id": f"{me}_people",
        "name": "People",
        "icon": "mdi:account-group",
        "state_class": "measurement",
        "state_topic": f"{base}/state",
        "value_template": "{{ value_json.people }}",
    }
    fall = {
        "platform": "binary_sensor",
        "unique_id": f"{me}_fall",
        "name": "Fall",
        "device_class": "safety",
        "state_topic": f"{base}/fall",
        "off_delay": _FALL_SECONDS,
    }
    events = {
        "platform": "event",
        "unique_id": f"{me}_event",
        "name": "Event",
        "state_topic": f"{base}/events",
        "event_types": list(KINDS),
        "value_template": "{{ {'event_type': value_json.kind, 'data': value_json.data} | to_json }}",
    }
    components: dict[str, dict[str, Any]] = {"people": people, "fall": fall, "event": events}
    for zone in zones:
        components[f"zone_{slug(zone)}"] = {
            "platform": "sensor",
            "unique_id": f"{me}_zone_{slug(zone)}",
            "name": f"People in {zone}",
            "icon": "mdi:account-multiple-check",
            "state_class": "measurement",
            "state_topic": f"{base}/state",
            "value_template": f"{{{{ value_json.occupancy[{_quoted(zone)}] | default(0) }}}}",
        }
    return {
        "device": {"identifiers": [me], "name": name, "manufacturer": "Posewire", "sw_version": __version__},
        "origin": {"name": "Posewire", "sw_version": __version__},
        "availability": [{"topic": topic} for topic in availability],
        "availability_mode": "all",
        "components": components,
    }


def without(config: Mapping[str, Any], gone: Mapping[str, str]) -> dict[str, Any]:
    """The message before `config` that removes components: Home Assistant keeps those that are not named any more.

    gone: platforms by the names of components.
    """
    removed = {component: {"platform": platform} for component, platform in gone.items()}
    return {**config, "components": {**config["components"], **removed}}


def _quoted(text: str) -> str:
    """A text in an expression of Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
