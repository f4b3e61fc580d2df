"""ONNX Runtime on a GPU or the CPU. Import `runtime` only when this backend is used."""
