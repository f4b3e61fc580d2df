"""Makes the files that runtimes open: ONNX graphs out of checkpoints. Needs posewire[torch]."""
