"""From regions of frames to the input of a network: crops on the host, or on the device where the network runs."""
