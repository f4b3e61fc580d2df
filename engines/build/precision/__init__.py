"""ONNX graphs in fp32 converted to fp16, bf16 and int8."""
