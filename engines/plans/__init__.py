"""TensorRT plans as files: a plan's key and manifest, and the search for one that fits."""
