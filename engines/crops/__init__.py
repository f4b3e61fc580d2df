"""Regions of frames become the input of a network: cut out on the host, or on the device where the network runs."""
