"""What a node of an ONNX graph reads, the graphs inside of it included, and what a graph can do without."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from onnx import AttributeProto, GraphProto, NodeProto


def inner_graphs(node: NodeProto) -> Iterable[GraphProto]:
    """The bodies of If, Loop and Scan, which may read what is outside of them."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def reads(node: NodeProto) -> set[str]:
    """The names of all that the node may read."""
    names = set(node.input)
    for graph in inner_graphs(node):
        names.update(value.name for value in graph.output)  # a body may hand on what is outside of it as it is
        for inner in graph.node:
            names |= reads(inner)
    return names


def prune(graph: GraphProto, wanted: Collection[str]) -> None:
    """Take the nodes and constants out of `graph` that none of the tensors `wanted` needs."""
    needed_names = set(wanted)
    needed: list[NodeProto] = []
    for node in reversed(graph.node):  # the nodes of a graph come in an order in which they can run
        if needed_names.intersection(node.output):
            needed.append(node)
            needed_names |= reads(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in needed_names]
    del graph.node[:]
    graph.node.extend(reversed(needed))
    del graph.initializer[:]
    graph.initializer.extend(kept)
