"""Every call ends exactly once, for a reason of its own, whatever callers and the runtime do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batcher, BatchResult, DeadlineExceededError, OverloadedError, Priority, RunError
from tests.service.batching.fakes import PoisonError, RecordingObserver, Runtime


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """does: how the runtime treats it."""

    does: str


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """The behaviour of one caller.

    timeout: seconds until its deadline. cancelled_after, pause: iterations of the event loop; None for never.
    """

    items: tuple[Item, ...]
    client: str
    priority: Priority
    timeout: float
    cancelled_after: int | None
    pause: int


calls = st.builds(
    Call,
    items=st.lists(
        st.builds(Item, st.sampled_from(["work"] * 6 + ["give error", "raise", "exit"])), min_size=1, max_size=4
    ).map(tuple),
    client=st.sampled_from("abc"),
    priority=st.sampled_from(Priority),
    timeout=st.sampled_from([inf, inf, 60.0, 0.002, 0.0]),
    cancelled_after=st.sampled_from([None, None, 1, 2, 5]),
    pause=st.integers(0, 3),
)


class ScriptedRuntime:
    """Treats each item as the item says, once it is released."""

    def __init__(self) -> None:
        self.gate = Runtime(held=True)
        self.runs = Counter[Item]()

    def __call__(self, items: Sequence[Item]) -> list[Item | BaseException]:
        self.gate([0])
        self.runs.update(items)
        does = [item.does for item in items]
        if "exit" in does:
            raise SystemExit
        if "raise" in does:
            raise PoisonError
        return [PoisonError() if item.does == "give error" else item for item in items]


Ending = list[BatchResult[Item]] | BaseException


async def run_call(call: Call, batcher: Batcher[Item, Item]) -> Ending:
    """Submit, perhaps cancel, and return how the call ended."""
    task = asyncio.create_task(
        batcher.submit_all(
            call.items, client=call.client, priority=call.priority, deadline=time.monotonic() + call.timeout
        )
    )
    if call.cancelled_after is not None:
        for _ in range(call.cancelled_after):
            await asyncio.sleep(0)
        task.cancel()
    (ending,) = await asyncio.gather(task, return_exceptions=True)
    return ending


def check(call: Call, ending: Ending) -> None:
    """Assert that the call's behaviour explains its ending."""
    does = {item.does for item in call.items}
    match ending:
        case list():
            assert [result.value for result in ending] == list(call.items)
            assert does == {"work"}
        case PoisonError():
            assert does & {"give error", "raise"}
        case RunError():
            assert "exit" in does
        case DeadlineExceededError():
            assert call.timeout < inf
        case asyncio.CancelledError():
            assert call.cancelled_after is not None
        case OverloadedError():
            assert ending.reason in {"full", "late"}
        case _:
            raise ending


@settings(max_examples=120, deadline=None)
@given(st.lists(calls, max_size=25), st.integers(1, 3), st.integers(1, 4), st.integers(0, 25))
def test_every_call_ends_once(script: list[Call], workers: int, max_batch: int, released_after: int) -> None:
    runtime, observer = ScriptedRuntime(), RecordingObserver()

    async def main() -> None:
        batcher = Batcher(runtime, name="x", workers=workers, max_batch=max_batch, max_queue=24, observer=observer)
        async with batcher:
            tasks = []
            for number, call in enumerate(script):
                if number == released_after:
                    runtime.gate.release()
                tasks.append(asyncio.create_task(run_call(call, batcher)))
                for _ in range(call.pause):
                    await asyncio.sleep(0)
            runtime.gate.release()
            endings = await asyncio.gather(*tasks)
            assert batcher.stats.waiting_items == batcher.stats.waiting_units == 0
        for call, ending in zip(script, endings, strict=True):
            check(call, ending)
        assert batcher.stats.running_batches == 0
        for thread in runtime.gate.threads:
            thread.join(10)
            assert not thread.is_alive()
        # Once in its batch, and once more alone if that failed.
        assert all(times <= 2 for times in runtime.runs.values())
        # The observer is told once about every accepted item without a result. A caller may be cancelled just after its
        # results came, and some items of a call may have had results before another failed.
        refused = observer.count("rejected")
        reported = sum(observer.count(event) for event in ("cancelled", "expired", "failed"))
        lost = [(call, ending) for call, ending in zip(script, endings, strict=True) if not isinstance(ending, list)]
        cancelled = sum(isinstance(ending, asyncio.CancelledError) for _, ending in lost)
        assert len(lost) - refused - cancelled <= reported <= sum(len(call.items) for call, _ in lost)

    asyncio.run(main())
