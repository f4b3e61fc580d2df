"""Who is who in live streams, worked out in processes of their own: trackers would fight for the interpreter's lock."""
