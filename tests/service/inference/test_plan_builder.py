"""Plans that cannot be built or cannot take over: the others are built, and no status stays "building"."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.plans.manifest import PlanFile
from service.inference.plan_builder import PlanBuilder, PlanStatus, PlanTask
from tests.denied import no_threads
from tests.waiting import wait_for


def use_builder(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let builders run `program` in place of engines.build. Plans are opened, but not read."""
    real = sys.executable
    script = Path(os.environ["POSEWIRE_TEST_BUILDER"])
    script.write_text(f"#!{real}\n{program}", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(PlanFile, "open", lambda path: SimpleNamespace(path=path, manifest=None))


@pytest.fixture(autouse=True)
def _script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEWIRE_TEST_BUILDER", str(tmp_path / "builder"))


def task(name: str, take_over: Callable[[Any], None] = lambda _: None) -> PlanTask:
    return PlanTask(name, "fp16", 4, PlanStatus(), take_over)


def ended() -> bool:
    return not any(thread.name == "posewire-plans" for thread in threading.enumerate())


@pytest.mark.parametrize("error", [MemoryError(), KeyError("boxes"), RuntimeError("no such device")])
def test_a_plan_that_cannot_take_over_fails_and_the_next_is_built(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_builder(monkeypatch, """print('{"plan": "some.plan"}')""")

    def refuse(_: Any) -> None:
        raise error

    tasks = [task("first", refuse), task("second")]
    PlanBuilder(tasks).start()
    wait_for(ended)
    assert [one.status.state for one in tasks] == ["failed", "ready"]
    assert tasks[0].status.detail == (str(error) or "MemoryError")
    assert "the plan of first failed, what serves it goes on" in caplog.text


def test_if_the_thread_ends_no_status_stays_building(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_builder(monkeypatch, """print('{"plan": "some.plan"}')""")

    def end_thread(_: Any) -> None:
        raise SystemExit

    tasks = [task("first", end_thread), task("second")]
    PlanBuilder(tasks).start()
    wait_for(ended)
    assert [one.status.state for one in tasks] == ["failed", "failed"]
    assert caplog.text.count("is not built, what serves it goes on") == 2


def test_the_last_line_of_a_builder_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    program = 'import sys; sys.stderr.buffer.write(b"x" * 300_000 + b"\\n\\xff\\xfe out of memory\\n\\n"); sys.exit(9)'
    use_builder(monkeypatch, program)
    only = task("only")
    PlanBuilder([only]).start()
    wait_for(ended)
    assert only.status.detail == "its builder ended with status 9: \ufffd\ufffd out of memory"


def test_a_builder_with_invalid_output_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_builder(monkeypatch, "import time; print('nonsense', flush=True); time.sleep(600)")
    only = task("only")
    PlanBuilder([only]).start()
    wait_for(ended)
    assert only.status.state == "failed"


def test_if_no_thread_can_be_started_graphs_serve_without_plans(caplog: pytest.LogCaptureFixture) -> None:
    only = task("only")
    builder = PlanBuilder([only])
    with no_threads():
        builder.start()
    builder.close()
    assert only.status.state == "failed"
    assert "no thread could be started to build it: can't start new thread" in caplog.text
