"""Live streams: one websocket each, with flow control, a tracker and a resume token; knows no HTTP framework."""
