"""The server's settings, from the command line, the environment (POSEWIRE_*) and files, in order of precedence."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from service.camera_hosts import CameraHosts


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _refuse_torch(value: object) -> object:
    if value == "torch":
        from engines.runtimes import TORCH_IS_GONE  # with numpy, which no other setting needs

        raise ValueError(TORCH_IS_GONE)
    return value


def _check_proxies(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values != ("*",):
            ip_network(value)  # an address is a network of one; the ValueError says what is wrong
    return values


class SettingsError(ValueError):
    """A file or folder of settings that cannot be used. The message is for the user, and names it."""


def _check_hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    CameraHosts.parse(values)
    return values


TEMPORARY_DATA = "posewire-data-"
"""How the folder begins that a server makes if the setting `data` names none."""
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The settings, frozen. Environment variables are the names in capitals after POSEWIRE_; the file is TOML."""

    model_config = SettingsConfigDict(env_prefix="POSEWIRE_", frozen=True, extra="forbid", populate_by_name=True)

    host: str = Field("0.0.0.0", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: int = Field(1, ge=1, le=64, description="server processes on separate cores; each loads its own models")
    model: CommaList = Field(
        ("auto",),
        min_length=1,
        validation_alias=AliasChoices("model", "POSEWIRE_MODEL"),
        description="models to serve, the first is the default; auto takes the best available",
    )
    backend: Annotated[Literal["auto", "openvino", "onnxruntime", "tensorrt"], BeforeValidator(_refuse_torch)] = Field(
        "auto", description="runtime of the networks; auto: TensorRT or else ONNX Runtime on a GPU, OpenVINO on a CPU"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="precision of the networks; fp16 and int8 on GPUs only"
    )
    devices: CommaList = Field(
        ("auto",),
        min_length=1,
        description="GPUs that share the work of each network, such as cuda:0,cuda:1; auto: all there are",
    )
    crops: Literal["auto", "cpu", "device"] = Field(
        "auto",
        description="where crops are made: on the cpu or the networks' device; auto: on the device if it is a GPU",
    )

    embedder: str = Field(
        "",
        description="model of the role embedder that helps streams and cameras recognise who comes back; "
        "empty for colours alone",
    )

    max_body_mb: float = Field(32.0, gt=0, description="largest request body, megabytes")
    head_seconds: float = Field(
        10.0, gt=0, description="timeout of a request's head, and of the first byte of a connection"
    )
    stall_seconds: float = Field(
        5.0, gt=0, description="how long a body may lag behind the slowest rate, and a response wait to be read"
    )
    min_kb_per_second: float = Field(10.0, gt=0, description="slowest rate of a request's body, kilobytes a second")
    max_pixels_m: float = Field(25.0, gt=0, description="largest image, million pixels")
    max_images: int = Field(16, ge=1, description="most images in one request")
    max_people: int = Field(50, ge=1, description="most people estimated in one image")
    max_connections: int = Field(2048, ge=1, description="most connections at once, of HTTP and streams together")
    max_requests: int = Field(128, ge=1, description="most requests at once whose images are being processed")
    memory_mb: int = Field(
        0,
        ge=0,
        description="megabytes for bodies, pixels and responses of all clients together; "
        "0 is a quarter of the container's or machine's memory",
    )
    client_share: float = Field(
        0.5, gt=0, le=1, description="the part of all shared limits that one client (address or API key) may use"
    )
    max_queue: int = Field(1024, ge=1, description="most work units that may wait for one network")
    max_delay_ms: float = Field(0.0, ge=0, description="how long a batch may wait for more items; 0 never waits")
    timeout_ms: int = Field(10_000, ge=1, description="default deadline of a request")

    max_streams: int = Field(256, ge=1, description="most live streams at once")
    trackers: int = Field(
        0, ge=0, le=64, description="most processes for the trackers of streams; 0 is one for four cores"
    )
    max_frame_mb: float = Field(8.0, gt=0, description="largest frame of a stream, megabytes")
    idle_seconds: float = Field(60.0, gt=0, description="a stream that sends or reads nothing for this long is ended")
    ping_seconds: float = Field(20.0, gt=0, description="time between two pings of a stream, and timeout of the answer")
    resume_seconds: int = Field(
        30, ge=0, description="how long a stream's identities are kept for its client to reconnect"
    )
    resume_key: SecretStr = Field(
        SecretStr(""), description="signs resume tokens; by default a new one at each start, or the one in Redis"
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="where servers share the state of streams, and cameras, as redis://HOST:6379/0; "
        "empty keeps it in memory",
    )
    checkpoint_ms: int = Field(1000, ge=50, description="greatest age of a running stream's state in Redis")

    data: Path | None = Field(
        None,
        description="folder for video jobs and for events that wait for their sinks, which survive restarts there; "
        "by default a temporary one of this run",
    )
    max_videos: int = Field(100, ge=0, description="most video jobs at once, ended ones included; 0 takes none")
    max_video_mb: float = Field(2000.0, gt=0, description="largest video of a job, megabytes")
    max_video_minutes: float = Field(
        60.0, gt=0, description="longest video of a job, minutes; more pixels than 1080p at 60 frames/s count as longer"
    )
    videos_gb: float = Field(20.0, gt=0, description="disk for all video jobs together, results included, gigabytes")
    video_hours: float = Field(24.0, gt=0, description="hours after which an ended video job is deleted")

    cameras: Path | None = Field(
        None, description="TOML file of the cameras that the server opens itself; reloaded at SIGHUP"
    )
    max_cameras: int = Field(64, ge=0, le=1000, description="most cameras at once, of the file and the API together")

    camera_hosts: Annotated[CommaList, AfterValidator(_check_hosts)] = Field(
        (),
        description="hosts that cameras put by the API may be at, and that any camera may lead to: names, "
        "`*.example.com`, addresses, networks or `*`; a camera of the file may always lead to its own host",
    )

    proxies: Annotated[CommaList, AfterValidator(_check_proxies)] = Field(
        ("127.0.0.1", "::1"), description="load balancers whose X-Forwarded-For is trusted: addresses, networks or `*`"
    )
    cors_origins: CommaList = Field(
        (),
        description="origins of other sites, as https://example.com, whose pages may use this server; or `*`",
    )
    api_keys: CommaList = Field((), description="SHA-256 digests of accepted keys, as `posewire key` prints them")
    api_keys_file: Path | None = Field(None, description="file of such digests, one a line")
    tls_certificate: Path | None = Field(
        None, description="PEM file of the server's certificate; with it, only HTTPS is served"
    )
    tls_key: Path | None = Field(None, description="PEM file of its key, if it is not in the same file")
    rate: float = Field(0.0, ge=0, description="requests a second allowed to each client; 0 is no limit")
    burst: int = Field(20, ge=1, description="requests a client may send at once before `rate` counts")

    drain_seconds: float = Field(2.0, ge=0, description="after SIGTERM, time for the load balancer to notice")
    grace_seconds: float = Field(30.0, gt=0, description="after that, time for accepted requests to finish")
    hang_seconds: float = Field(5.0, gt=0, description="a network that takes longer makes /readyz fail")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line")
    log_format: Literal["json", "text"] = Field("json", description="how log lines look")

    @property
    def data_lasts(self) -> bool:
        """False if the folder of data is a temporary one of this run."""
        return self.data is not None and not self.data.name.startswith(TEMPORARY_DATA)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its signature is given
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, first the one that takes precedence.

        These are the command line, the environment, the TOML file that POSEWIRE_CONFIG names, and the folder that
        POSEWIRE_SECRETS names, with files such as `posewire_resume_key`, as container engines mount secrets. Raises
        SettingsError.
        """
        sources = [init_settings, env_settings]
        if file := os.environ.get("POSEWIRE_CONFIG"):
            sources.append(InitSettingsSource(settings_cls, _read(Path(file), list(settings_cls.model_fields))))
        if folder := os.environ.get("POSEWIRE_SECRETS"):
            if not Path(folder).is_dir():
                raise SettingsError(f"POSEWIRE_SECRETS names {folder}, which is no folder")
            sources.append(SecretsSettingsSource(settings_cls, Path(folder)))
        return tuple(sources)


def _read(file: Path, known: list[str]) -> dict[str, object]:
    """Read settings from a TOML file. Raises SettingsError, where pydantic-settings would ignore a missing file."""
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"the file of settings {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, nested too deep, or no UTF-8
        raise SettingsError(f"the file of settings {file} is no TOML: {error}") from error
    for name in values:
        if name not in known:
            hint = "".join(f"; did you mean {close}?" for close in get_close_matches(name, known, 1))
            raise SettingsError(f"there is no setting {name}, which {file} names{hint}")
    return values


def explain(error: ValidationError) -> str:
    """Return one line about the first invalid setting: its name, where it was set, and what is wrong with it."""
    first = error.errors()[0]
    name = str(first["loc"][0]).removeprefix("POSEWIRE_").lower()
    where = ""
    if f"POSEWIRE_{name}".upper() not in os.environ and (file := os.environ.get("POSEWIRE_CONFIG")):
        where = f" in {file}"
    value = "" if Settings.model_fields[name].annotation is SecretStr else f", not {first['input']!r}"
    return f"setting {name}{where}: {first['msg']}{value}"
