"""Graphs that are compiled once a batch could use them."""

from __future__ import annotations

import threading

import pytest

from engines.runtimes.openvino.batch_graphs import BatchGraphs
from tests.denied import no_threads
from tests.waiting import wait_for


class Graph:
    """Of one rung; counts how often it gave back memory."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.released = 0

    def release(self) -> None:
        self.released += 1


class Compiler:
    """Makes graphs once it is let; `made` are the rungs that it was asked for."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = threading.Event()
        if ready:
            self.ready.set()
        self.made: list[int] = []

    def __call__(self, batch_size: int) -> Graph:
        self.made.append(batch_size)
        self.ready.wait()
        return Graph(batch_size)


def pieces(batch_sizes: BatchGraphs[Graph], count: int) -> list[tuple[int, int, int]]:
    """The rung of the graph, the start and the stop of each piece."""
    return [(graph.batch_size, piece.start, piece.stop) for graph, piece in batch_sizes.cut(count)]


def test_a_batch_runs_in_smaller_pieces_until_its_graph_is_there() -> None:
    compiler = Compiler(ready=False)
    batch_sizes = BatchGraphs({1: Graph(1)}, (2, 4), compiler)
    assert pieces(batch_sizes, 3) == [(1, 0, 1), (1, 1, 2), (1, 2, 3)]
    compiler.ready.set()
    wait_for(lambda: pieces(batch_sizes, 3) == [(2, 0, 2), (1, 2, 3)])
    assert compiler.made == [2]  # four were never wanted
    batch_sizes.close()


def test_one_graph_is_compiled_at_a_time() -> None:
    compiler = Compiler(ready=False)
    batch_sizes = BatchGraphs({1: Graph(1)}, (2, 4), compiler)
    batch_sizes.cut(2)
    wait_for(lambda: compiler.made == [2])
    batch_sizes.cut(4)
    assert compiler.made == [2]
    compiler.ready.set()
    wait_for(lambda: pieces(batch_sizes, 4) == [(4, 0, 4)])
    assert compiler.made == [2, 4]
    batch_sizes.close()


def test_shrinking_leaves_what_was_there_from_the_start() -> None:
    first = Graph(1)
    batch_sizes = BatchGraphs({1: first}, (2,), Compiler())
    batch_sizes.cut(2)
    wait_for(lambda: len(batch_sizes.cut(2)) == 1)
    batch_sizes.shrink()
    assert first.released == 1
    assert pieces(batch_sizes, 2) == [(1, 0, 1), (1, 1, 2)]
    wait_for(lambda: len(batch_sizes.cut(2)) == 1)
    batch_sizes.close()


@pytest.mark.parametrize("error", [RuntimeError("refused"), OSError("gone"), MemoryError(), KeyError(4), SystemExit()])
def test_a_graph_that_cannot_be_compiled_is_tried_again_after_ever_longer_pauses(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    now, tried = 0.0, list[int]()

    def compile_for(batch_size: int) -> Graph:
        tried.append(batch_size)
        if now < 30:
            raise error
        return Graph(batch_size)

    batch_sizes = BatchGraphs({1: Graph(1)}, (2, 4), compile_for, lambda: now)

    def logged(times: int) -> bool:
        return sum("cannot be compiled" in record.message for record in caplog.records) == times

    assert len(batch_sizes.cut(4)) == 4
    wait_for(lambda: logged(1))
    batch_sizes.cut(4)  # the smaller one may do
    wait_for(lambda: logged(2))
    assert len(batch_sizes.cut(4)) == 4
    assert tried == [4, 2]
    now = 10.0
    batch_sizes.cut(4)
    wait_for(lambda: logged(3))
    assert "tried again in 20 s" in caplog.text
    now = 29.9
    assert len(batch_sizes.cut(1)) == 1
    now = 30.0
    wait_for(lambda: len(batch_sizes.cut(4)) == 1)
    assert tried[:3] == [4, 2, 4]
    batch_sizes.close()


def test_a_batch_runs_though_the_system_starts_no_thread_to_compile_for_it(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    batch_sizes = BatchGraphs({1: Graph(1)}, (2,), Graph, lambda: now)
    with no_threads():
        assert len(batch_sizes.cut(2)) == 2
    assert "can't start new thread" in caplog.text
    now = 10.0
    wait_for(lambda: len(batch_sizes.cut(2)) == 1)
    batch_sizes.close()


def test_closing_waits_for_what_is_being_compiled() -> None:
    compiler = Compiler(ready=False)
    batch_sizes = BatchGraphs({1: Graph(1)}, (2,), compiler)
    batch_sizes.cut(2)
    closing = threading.Thread(target=batch_sizes.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    compiler.ready.set()
    closing.join(10)
    assert not closing.is_alive()
