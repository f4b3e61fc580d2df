"""The processes of a server: how they start, are supervised, and end; their memory and TLS."""
