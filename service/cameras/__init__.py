"""Cameras and other live sources that Posewire opens itself: devices, RTSP, MJPEG and HLS over HTTP, files."""
