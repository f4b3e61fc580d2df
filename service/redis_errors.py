"""Describes errors of Redis without quoting them.

The messages of redis-py quote commands, with the keys, states and passwords in them. None of that may reach a log or a
client, so messages are only searched for the error codes of Redis.
"""

from __future__ import annotations

import re

from redis import exceptions

ERRORS = (exceptions.RedisError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""Exceptions of redis-py: Redis cannot be reached, refuses a command, or does not reply as Redis does."""

_CODES = {
    "OOM": "it is out of memory and takes no writes",
    "READONLY": "it is a replica that takes no writes",
    "MISCONF": "it cannot write to its disk and takes no writes",
    "NOREPLICAS": "it has too few replicas and takes no writes",
    "BUSY": "it is busy with a script",
    "LOADING": "it is loading its data",
    "NOAUTH": "not authenticated; check the user and the password in redis_url",
    "NOPERM": "its access list does not permit EVAL, or keys that begin with posewire:",
    "MASTERDOWN": "it is a replica without its primary",
    "CLUSTERDOWN": "it is part of a cluster, which is not supported",
}
_KINDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((exceptions.AuthenticationError, exceptions.AuthorizationError), _CODES["NOAUTH"]),
    ((exceptions.AuthenticationWrongNumberOfArgsError,), _CODES["NOAUTH"]),
    ((exceptions.NoPermissionError,), _CODES["NOPERM"]),
    ((exceptions.OutOfMemoryError,), _CODES["OOM"]),
    ((exceptions.ReadOnlyError,), _CODES["READONLY"]),
    ((exceptions.BusyLoadingError,), _CODES["LOADING"]),
    ((exceptions.MasterDownError,), _CODES["MASTERDOWN"]),
    ((exceptions.AskError, exceptions.ClusterError, exceptions.ClusterCrossSlotError), _CODES["CLUSTERDOWN"]),
    ((exceptions.TimeoutError, TimeoutError), "it did not answer in time"),
    ((exceptions.ConnectionError, OSError, EOFError), "it cannot be connected to, or has closed the connection"),
)
"""The first match counts: some of these classes are derived from later ones."""
_CODE = re.compile(rf"(?:^|-)({'|'.join(_CODES)}) ")
"""Redis 6 puts the error code of a command inside the message of the script."""


def reason(error: object) -> str:
    """Describe an error, or a reply that should not be one. The text may be logged and shown to clients."""
    unknown = "it refused a command" if isinstance(error, exceptions.RedisError) else "it does not answer as Redis does"
    return _known(error) or unknown


def refuses_all(error: object) -> bool:
    """Return True if an error concerns Redis as a whole, and not the data of one command."""
    return isinstance(error, Exception) and bool(_known(error))


def _known(error: object) -> str:
    for kinds, words in _KINDS:
        if isinstance(error, kinds):
            return words
    found = _CODE.search(str(error))
    return _CODES[found[1]] if found else ""
