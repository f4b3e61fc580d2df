"""`posewire serve`: checks the settings, prints the banner, and runs uvicorn in one process or several."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click
import cv2
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from engines.catalogue import Catalogue, UnknownModelError, load
from engines.cores import usable_cores
from engines.locks import is_locked, lock
from service.api.addresses import Proxies
from service.api.app import create_app
from service.api.security import ApiKeys
from service.cameras.camera_file import CameraFile
from service.config import TEMPORARY_DATA, Settings
from service.inference.model_registry import check_embedder, open_serving
from service.observability import logs
from service.offline.jobs.job import JobLimits
from service.offline.jobs.store import JobStore
from service.process.memory import bound_pools
from service.process.parent import end_with_parent
from service.process.tls import ServerTls
from service.process.workers import Application, Workers

log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 75
"""Lifetime of an idle connection. Load balancers keep idle connections for less time, so that they never send a
request on a connection that is just being closed.
"""
_PING_TIMEOUT_S = 15
"""A worker that does not answer a ping for this long is replaced."""
_ORPHAN_S = 60.0
"""Time beyond `drain_seconds` and `grace_seconds` after which a worker whose supervisor is gone exits."""
_OWNER = "owner.lock"
_ABANDONED_S = 60.0
"""Age from which a folder of data without an owner is removed. Its owner locks it a moment after it was made."""
_NAMES, _WHY = "POSEWIRE_CHOSEN_MODELS", "POSEWIRE_CHOSEN_WHY"
_NO_SETTINGS = {_NAMES, _WHY, "POSEWIRE_CATALOGUE", "POSEWIRE_CONFIG", "POSEWIRE_MODELS", "POSEWIRE_SECRETS"}


def run_server(settings: Settings, catalogue: Catalogue, choice: tuple[Sequence[str], str]) -> None:
    """Serve until SIGTERM or Ctrl-C. choice: the models, already fetched, and why they were chosen."""
    names, why = choice
    _check(settings, catalogue)
    with _data_folder(settings):
        _serve(settings, catalogue, names, why)


@contextmanager
def _data_folder(settings: Settings) -> Iterator[None]:
    """Set POSEWIRE_DATA, for the worker processes too, to a new folder if no folder is named, and remove it at the end.

    Folders of servers that were killed are removed, too. If no folder can be made, there will be no video jobs.
    """
    if settings.data is not None:
        yield
        return
    for old in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_DATA}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _ABANDONED_S and not is_locked(old / _OWNER):
                shutil.rmtree(old, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_DATA))
        owner = lock(folder / _OWNER)
    except OSError:
        yield
        return
    os.environ["POSEWIRE_DATA"] = str(folder)
    try:
        yield
    finally:
        os.close(owner)
        shutil.rmtree(folder, ignore_errors=True)


def _serve(settings: Settings, catalogue: Catalogue, names: Sequence[str], why: str) -> None:
    os.environ |= {_NAMES: ",".join(names), _WHY: why}  # for the worker processes
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise click.ClickException(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another with --port"
            ) from error
        port = listening.getsockname()[1]
        _print_banner(settings, catalogue, names[0], why, port)
        tls = ServerTls.of(settings)
        config = uvicorn.Config(
            Application("service.server:worker_app", tls),
            factory=True,
            ssl_context_factory=tls.context if tls else None,
            workers=settings.workers,
            loop="service.process.tls:TlsLoop" if tls else "uvloop",
            http="service.api.new_connection:NewConnection",
            ws="service.api.websocket:BoundedWebSocket",
            ws_max_size=int(settings.max_frame_mb * 1e6),
            ws_ping_interval=settings.ping_seconds,
            ws_ping_timeout=settings.ping_seconds,
            ws_per_message_deflate=False,  # would not shrink images, and takes two buffers for each connection
            timeout_keep_alive=_KEEP_ALIVE_S,
            forwarded_allow_ips=Proxies(settings.proxies).names(),
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=16_384,  # or the system's limit; clients that a full queue drops try again only after a second
            timeout_worker_healthcheck=_PING_TIMEOUT_S,
            timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        )
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again after a graceful shutdown
            signal.signal(number, _do_nothing)
        if settings.workers == 1:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the application handles it
            uvicorn.Server(config).run(sockets=[listening])
            return
        logs.configure(settings.log_level, settings.log_format)
        shared = Path(tempfile.mkdtemp(prefix="posewire-metrics-"))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
        listening.set_inheritable(True)
        workers = Workers(config, sockets=[listening])
        try:
            workers.run()
        finally:
            shutil.rmtree(shared, ignore_errors=True)
        if workers.failed:
            raise click.ClickException("no worker could start; the log says why")


def _check(settings: Settings, catalogue: Catalogue) -> None:
    """Raise UsageError for a setting at which each process would fail."""
    setting = "redis_url"
    try:
        if url := settings.redis_url.get_secret_value():
            from service.streams.store.redis import check_url  # slow to import

            check_url(url)  # these errors do not show the password
        setting = "api_keys_file" if settings.api_keys_file else "api_keys"
        ApiKeys.read(settings.api_keys, settings.api_keys_file)
        setting = "data"
        if settings.data is not None:
            JobStore(settings.data, JobLimits(0, 0, 1, 0)).close()
        setting = "cameras"
        if settings.cameras is not None:
            if settings.workers > 1 and not url:
                raise ValueError("with several workers it takes a redis_url, by which they agree who has each camera")
            CameraFile.read(settings.cameras, settings.max_cameras)
        setting = "tls_key" if settings.tls_certificate is None else "tls_certificate"
        ServerTls.of(settings)
        setting = "embedder"
        if settings.embedder:
            check_embedder(catalogue[settings.embedder])
    except (OSError, ValueError, UnknownModelError) as error:
        raise click.UsageError(f"setting {setting}: {error}") from error


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal after a graceful shutdown, when there is nothing left to interrupt."""


def worker_app(tls: ServerTls | None = None) -> ASGIApp:
    """Return the application of this process, with the settings of the environment. tls: reloaded at SIGHUP."""
    settings = Settings()
    cv2.setNumThreads(1)  # the work is already spread over threads; OpenCV's own would compete with them
    bound_pools()
    logs.configure(settings.log_level, settings.log_format)
    threading.excepthook = _log_thread_error
    end_with_parent(settings.drain_seconds + settings.grace_seconds + _ORPHAN_S)
    names, why = os.environ[_NAMES].split(","), os.environ[_WHY]
    app = create_app(
        settings,
        lambda observer: open_serving(load(), names, settings, observer, why=why, embedder=settings.embedder),
        tls,
    )
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "Content-Type"],
        expose_headers=["Location", "Retry-After", "X-Request-ID"],
    )


def _log_thread_error(about: threading.ExceptHookArgs) -> None:
    """Log the exception that has ended a thread."""
    if about.exc_value is not None and about.exc_type is not SystemExit:
        name = about.thread.name if about.thread else "?"
        log.error("thread %s has ended with an error", name, exc_info=about.exc_value)


def _print_banner(settings: Settings, catalogue: Catalogue, name: str, why: str, port: int) -> None:
    model = catalogue[name]
    scheme = "http" if settings.tls_certificate is None else "https"
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
    changed = {k: v for k, v in settings.model_dump(mode="json", exclude_defaults=True).items() if k != "api_keys"}
    lines = [
        f"Posewire   {scheme}://{host}:{port}   docs: {scheme}://{host}:{port}/docs",
        f"model      {why or name}",
        f"           {model.title}; {model.licence}; {model.accuracy or 'no published accuracy'}",
        f"device     CPU, {_cores()}",
        f"try        curl --data-binary @photo.jpg {scheme}://{host}:{port}/pose",
    ]
    if settings.workers > 1 and not settings.redis_url.get_secret_value():
        lines.append("streams    resume only at the worker that had them; with a redis_url at any")
    if changed:
        lines.append("settings   " + ", ".join(f"{key}={value}" for key, value in changed.items()))
    known = _NO_SETTINGS | {f"POSEWIRE_{name}".upper() for name in Settings.model_fields}
    if unknown := sorted({name for name in os.environ if name.startswith("POSEWIRE_")} - known):
        lines.append(f"ignored    {', '.join(unknown)}, as there are no such settings")
    click.echo("\n".join(lines), err=True)


def _cores() -> str:
    usable, present = usable_cores(), len(os.sched_getaffinity(0))
    return f"{present} cores" if usable == present else f"{usable} of {present} cores, which is this container's quota"
