"""Which replica owns a camera, and what replicas share of their cameras."""
