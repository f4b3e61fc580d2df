"""Tracking people over time. Takes and returns numpy arrays; usable without the server."""

from service.tracking.config import TrackerConfig
from service.tracking.state import UNCONFIRMED, Track, TrackerState, TrackState
from service.tracking.tracker import PoseTracker

__all__ = ["UNCONFIRMED", "PoseTracker", "Track", "TrackState", "TrackerConfig", "TrackerState"]
