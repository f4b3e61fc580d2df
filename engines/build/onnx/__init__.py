"""Edits ONNX graphs: their inputs and outputs, and the parts that their family does itself."""
