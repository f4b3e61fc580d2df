"""Builds the files that runtimes open: ONNX graphs, int8 models and TensorRT plans. Needs posewire[torch]."""
