"""TensorRT plans on an NVIDIA GPU. Import `runtime` only when this backend is used."""
