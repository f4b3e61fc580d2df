"""The choice of the default model: the best one that is on this machine, or else that can be fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines.catalogue.fetch.sources import DownloadedSource, DownloadProgress, FetchError, UnreachableError
from engines.catalogue.models import Catalogue
from engines.catalogue.schema import Model


@dataclass(frozen=True, slots=True)
class Choice:
    """The model to use by default, and the reason in a sentence."""

    model: Model
    why: str


def choose_default(
    catalogue: Catalogue,
    *,
    connect_timeout: float = 3.0,
    progress: DownloadProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> Choice:
    """The first of the catalogue's `defaults` that is cached, or else the first that can be fetched, with its detector.

    If one is cached, the network is not used; users fetch a better one themselves. Models whose licence does not
    allow commercial use are never chosen. A server that could not be reached is not asked again for another model.
    connect_timeout: seconds within which each server must accept the connection. say: called with a line for
    each model that is tried: where its files came from, or why they did not.
    Raises FetchError, with the reason for each model, if none is cached and none can be fetched.
    """
    candidates = [name for name in catalogue.defaults if all(part.commercial for part in catalogue.parts(name))]
    for place, name in enumerate(candidates):
        if all(part.cached for part in catalogue.parts(name)):
            better = f"; `posewire models fetch NAME` gets a better one: {', '.join(candidates[:place])}"
            return Choice(catalogue[name], f"{name}: already on this machine{better if place else ''}")
    say = say or (lambda _line: None)
    failures: list[tuple[str, FetchError]] = []
    unreached = set[str]()
    for name in candidates:
        try:
            for part in catalogue.parts(name):
                _fetch_unless_in(unreached, part, progress, connect_timeout)
        except FetchError as error:
            failures.append((name, error))
            say(f"{name} could not be fetched: {error.reason}")
        else:
            origins = dict.fromkeys(part.source.origin for part in catalogue.parts(name))
            say(f"{name} was fetched: {' and '.join(origins)}")
            return Choice(catalogue[name], f"{name}: {_why_fetched(failures)}")
    reasons = "; ".join(f"{name}: {error.reason}" for name, error in failures) or "the catalogue names none"
    raise FetchError(f"there is no default model ({reasons})", failures[-1][1].hint if failures else "")


def _fetch_unless_in(
    unreached: set[str], part: Model, progress: DownloadProgress | None, connect_timeout: float
) -> None:
    """Fetch a model unless its server is in `unreached`. Adds the server if it cannot be reached. Raises FetchError."""
    server = part.source.server if isinstance(part.source, DownloadedSource) else ""
    if server in unreached and not part.cached:
        raise FetchError(f"{server} could not be reached")
    try:
        part.fetch(progress, connect_timeout=connect_timeout)
    except UnreachableError:
        unreached.add(server)
        raise


def _why_fetched(failures: Sequence[tuple[str, FetchError]]) -> str:
    if not failures:
        return "the preferred model, fetched now"
    missed = " and ".join(f"{name} could not be fetched ({error.reason})" for name, error in failures)
    return f"{missed}; run `posewire models fetch {failures[0][0]}` to try again"
