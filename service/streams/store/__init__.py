"""Stores for the state of streams, so that they can be resumed: in memory, or in Redis for all replicas."""
