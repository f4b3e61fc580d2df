"""The server: bytes from clients turned into batched calls of `engines`."""

from importlib.metadata import version

__version__ = version("posewire")
