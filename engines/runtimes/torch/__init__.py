"""Graphs run by torch, on a GPU or the CPU. Import `runtime` only where this backend is used."""
