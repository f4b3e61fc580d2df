"""Fuzz tests. Each runs for seconds in `make test`, and for POSEWIRE_FUZZ_SECONDS if that is set."""
