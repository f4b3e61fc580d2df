"""How long a fuzz test runs."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, settings

_Test = TypeVar("_Test", bound=Callable[..., None])


def fuzz(examples: int = 100) -> Callable[[_Test], _Test]:
    """Decorate a hypothesis test, above `@given`, to run `examples` examples.

    If POSEWIRE_FUZZ_SECONDS is set, the test is repeated with new examples for that many seconds.
    """

    def decorate(test: _Test) -> _Test:
        short = settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])(test)
        seconds = float(os.environ.get("POSEWIRE_FUZZ_SECONDS", "0"))
        if not seconds:
            return short

        @functools.wraps(short)
        def repeat(*arguments: object, **keywords: object) -> None:
            stop = time.monotonic() + seconds
            while True:
                short(*arguments, **keywords)
                if time.monotonic() >= stop:
                    return

        return repeat  # type: ignore[return-value]

    return decorate
