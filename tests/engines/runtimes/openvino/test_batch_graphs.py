"""Graphs that are compiled in the background when a batch needs them."""

from __future__ import annotations

import threading

import pytest

from engines.runtimes.openvino.batch_graphs import BatchGraphs
from tests.denied import no_threads
from tests.waiting import wait_for


class Graph:
    """The graph of one batch size; counts calls of `release`."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.released = 0

    def release(self) -> None:
        self.released += 1


class Compiler:
    """Makes graphs once `ready` is set. made: the requested batch sizes."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = threading.Event()
        if ready:
            self.ready.set()
        self.made: list[int] = []

    def __call__(self, batch_size: int) -> Graph:
        self.made.append(batch_size)
        self.ready.wait()
        return Graph(batch_size)


def pieces(graphs: BatchGraphs[Graph], count: int) -> list[tuple[int, int, int]]:
    """The batch size of the graph, the start and the stop of each piece."""
    return [(graph.batch_size, piece.start, piece.stop) for graph, piece in graphs.cut(count)]


def test_a_batch_runs_in_smaller_pieces_until_its_graph_is_compiled() -> None:
    compiler = Compiler(ready=False)
    graphs = BatchGraphs({1: Graph(1)}, (2, 4), compiler)
    assert pieces(graphs, 3) == [(1, 0, 1), (1, 1, 2), (1, 2, 3)]
    compiler.ready.set()
    wait_for(lambda: pieces(graphs, 3) == [(2, 0, 2), (1, 2, 3)])
    assert compiler.made == [2]  # 4 was never needed
    graphs.close()


def test_one_graph_is_compiled_at_a_time() -> None:
    compiler = Compiler(ready=False)
    graphs = BatchGraphs({1: Graph(1)}, (2, 4), compiler)
    graphs.cut(2)
    wait_for(lambda: compiler.made == [2])
    graphs.cut(4)
    assert compiler.made == [2]
    compiler.ready.set()
    wait_for(lambda: pieces(graphs, 4) == [(4, 0, 4)])
    assert compiler.made == [2, 4]
    graphs.close()


def test_shrinking_keeps_the_graphs_that_existed_from_the_start() -> None:
    first = Graph(1)
    graphs = BatchGraphs({1: first}, (2,), Compiler())
    graphs.cut(2)
    wait_for(lambda: len(graphs.cut(2)) == 1)
    graphs.shrink()
    assert first.released == 1
    assert pieces(graphs, 2) == [(1, 0, 1), (1, 1, 2)]
    wait_for(lambda: len(graphs.cut(2)) == 1)
    graphs.close()


@pytest.mark.parametrize("error", [RuntimeError("refused"), OSError("gone"), MemoryError(), KeyError(4), SystemExit()])
def test_compiling_is_retried_after_increasing_pauses(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    now, tried = 0.0, list[int]()

    def compile_for(batch_size: int) -> Graph:
        tried.append(batch_size)
        if now < 30:
            raise error
        return Graph(batch_size)

    graphs = BatchGraphs({1: Graph(1)}, (2, 4), compile_for, lambda: now)

    def logged(times: int) -> bool:
        return sum("cannot be compiled" in record.message for record in caplog.records) == times

    assert len(graphs.cut(4)) == 4
    wait_for(lambda: logged(1))
    graphs.cut(4)  # compiling 2 may succeed
    wait_for(lambda: logged(2))
    assert len(graphs.cut(4)) == 4
    assert tried == [4, 2]
    now = 10.0
    graphs.cut(4)
    wait_for(lambda: logged(3))
    assert "tried again in 20 s" in caplog.text
    now = 29.9
    assert len(graphs.cut(1)) == 1
    now = 30.0
    wait_for(lambda: len(graphs.cut(4)) == 1)
    assert tried[:3] == [4, 2, 4]
    graphs.close()


def test_a_batch_runs_even_if_no_thread_can_be_started_to_compile(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    graphs = BatchGraphs({1: Graph(1)}, (2,), Graph, lambda: now)
    with no_threads():
        assert len(graphs.cut(2)) == 2
    assert "can't start new thread" in caplog.text
    now = 10.0
    wait_for(lambda: len(graphs.cut(2)) == 1)
    graphs.close()


def test_closing_waits_for_the_compiler() -> None:
    compiler = Compiler(ready=False)
    graphs = BatchGraphs({1: Graph(1)}, (2,), compiler)
    graphs.cut(2)
    closing = threading.Thread(target=graphs.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    compiler.ready.set()
    closing.join(10)
    assert not closing.is_alive()
