"""Tracking people over time. Takes and returns numpy arrays; usable without the server."""

from service.tracking.config import TrackerConfig
from service.tracking.state import UNCONFIRMED, AbsentState, Track, TrackerState, TrackState
from service.tracking.tracker import PoseTracker

__all__ = ["UNCONFIRMED", "AbsentState", "PoseTracker", "Track", "TrackState", "TrackerConfig", "TrackerState"]
