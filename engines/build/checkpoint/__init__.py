"""Turns an author's checkpoint into a model that can be served: an ONNX graph and a catalogue file."""
