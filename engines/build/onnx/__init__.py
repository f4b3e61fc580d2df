"""ONNX graphs made ready for a runtime: their input, their outputs, and what their family does itself."""
