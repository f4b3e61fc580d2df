"""Checks that a graph in another precision, or a plan of it, still finds the same people as the graph in fp32."""
