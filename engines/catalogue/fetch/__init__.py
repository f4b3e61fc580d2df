"""Getting model files: from wheels, over HTTPS or from a folder, verified and kept in a cache.

A file is used only with a digest that vouches for it: the one that the catalogue pins or, where the publisher gives
none, the one of its first download (trust on first use), which is kept beside the file and verified ever after.
"""

from engines.catalogue.fetch.sources import (
    CheckpointSource,
    DownloadProgress,
    FetchError,
    File,
    FileSource,
    HttpsSource,
    PypiSource,
    Source,
    permitted,
)
from engines.catalogue.fetch.store import fetch, is_cached, locate

__all__ = [
    "CheckpointSource",
    "DownloadProgress",
    "FetchError",
    "File",
    "FileSource",
    "HttpsSource",
    "PypiSource",
    "Source",
    "fetch",
    "is_cached",
    "locate",
    "permitted",
]
