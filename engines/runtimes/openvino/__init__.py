"""OpenVINO on the CPU. Import `runtime` only where this backend is used."""
