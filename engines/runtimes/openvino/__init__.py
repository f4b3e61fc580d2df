"""OpenVINO on the CPU. Import `runtime` only when this backend is used."""
