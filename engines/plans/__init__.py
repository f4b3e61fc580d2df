"""TensorRT plans as files: what a plan depends on, its manifest, and how the one that fits is found."""
