"""Fuzzers: seconds in `make test`, and as long as POSEWIRE_FUZZ_SECONDS says for each of them."""
