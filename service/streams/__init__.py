"""Live streams: one websocket each, with flow control, tracking and resume tokens. Independent of the web framework."""
