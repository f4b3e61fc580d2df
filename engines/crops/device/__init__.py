"""What torch does to pixels and outputs on a GPU or, by the same code, on a CPU. Needs posewire[torch]."""
