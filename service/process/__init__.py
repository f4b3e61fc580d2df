"""The processes of a server: how they start, are supervised, and end. `run` is the entry point."""
