"""The parts of the benchmark of GPUs, each of which can be run on a CPU with tiny sizes."""
