"""Trackers of live streams, run in worker processes so that they do not compete with the server for the GIL."""
