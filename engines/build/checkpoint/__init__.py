"""An author's checkpoint becomes a model that can be served: an ONNX graph and a catalogue file beside it."""
