"""Crops and decoding of outputs in torch, on a GPU or, with the same code, on a CPU. Needs posewire[torch]."""
