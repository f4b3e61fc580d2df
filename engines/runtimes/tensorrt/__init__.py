"""TensorRT plans on an NVIDIA GPU. Import `runtime` only where this backend is used."""
