"""What is read by HTTP: requests that FFmpeg would make are made here, where each host is checked.

FFmpeg gets bytes alone, so that redirects, playlists' pieces and their keys lead nowhere else, certificates are
verified everywhere, and it knows no password.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator, Mapping
from urllib.parse import unquote

import httpx

from service.camera_hosts import CameraHosts
from service.cameras.sources.addresses import permitted_addresses, trusted_certificates
from service.cameras.sources.errors import SourceError

_MAX_REDIRECTS = 5
_MAX_UNDECODED = 64 << 20
"""Bytes. If so many bring no packet, it is a picture without an end, or of an absurd size."""
_CONNECT_S = 5.0
"""For each address of a host: one that never answers must not hide the next one."""


class Web:
    """Reads what a source by HTTP needs. A context manager, for one thread.

    hosts: what may be connected to. The user name and password in the source's URL go to its own origin alone.
    """

    def __init__(self, url: str, hosts: CameraHosts, *, verify: bool) -> None:
        self._source = httpx.URL(url)
        self._login = _Login(unquote(self._source.username), unquote(self._source.password))
        self._client = httpx.Client(
            transport=_CheckedTransport(hosts, verify=verify),
            timeout=httpx.Timeout(None, connect=_CONNECT_S),  # the owner kills this process if nothing arrives
            headers={"User-Agent": "posewire", "Accept": "*/*", "Accept-Encoding": "identity"},
            trust_env=False,
        )
        self.undecoded = 0

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def open(self, url: str) -> WebFile:
        """Request a URL, and follow redirects. Raises SourceError."""
        try:
            target = httpx.URL(url)
            for _ in range(_MAX_REDIRECTS + 1):
                if target.scheme not in ("http", "https"):
                    raise SourceError(f"it leads to an address that begins with {target.scheme}:, which is not opened")
                response = self._request(target)
                if not response.is_redirect:
                    break
                target = target.join(response.headers["location"])
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, KeyError) as error:  # httpx: KeyError for an unknown digest
            raise SourceError(_why(error)) from error
        if not response.is_success:
            response.close()
            raise SourceError(f"it answers {response.status_code} {response.reason_phrase}")
        return WebFile(self, str(target.copy_with(userinfo=b"")), response)

    def open_piece(self, url: str, flags: int, _options: Mapping[str, str]) -> WebFile:
        """As `open`, for what FFmpeg finds in a playlist."""
        if flags != _READ:
            raise SourceError("it is to be written to")
        if url.startswith("crypto"):
            raise SourceError("its playlist is encrypted, which is not supported")
        return self.open(url)

    def spend(self, size: int) -> None:
        """Count bytes that have been received. Raises SourceError if there are too many without a packet."""
        self.undecoded += size
        if self.undecoded > _MAX_UNDECODED:
            raise SourceError(f"{_MAX_UNDECODED >> 20} MiB have brought no picture")

    def _request(self, url: httpx.URL) -> httpx.Response:
        request = self._client.build_request("GET", url.copy_with(userinfo=b""))
        at_home = (url.scheme, url.host, url.port) == (self._source.scheme, self._source.host, self._source.port)
        return self._client.send(request, stream=True, auth=self._login if at_home else None)


_READ = 1
"""FFmpeg's AVIO_FLAG_READ."""


class WebFile:
    """A response's body, as PyAV reads it. name: its URL, to which those of a playlist are relative."""

    def __init__(self, web: Web, name: str, response: httpx.Response) -> None:
        self.name = name
        self.content_type = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
        self._web = web
        self._response = response
        self._chunks = response.iter_raw()
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return what has arrived, at most `size` bytes, and b"" at the end. Raises SourceError."""
        try:
            while not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    return b""
                self._web.spend(len(self._rest))
        except httpx.HTTPError as error:
            raise SourceError(_why(error)) from error
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def close(self) -> None:
        self._response.close()


class _CheckedTransport(httpx.HTTPTransport):
    """Connects to the addresses that have been checked, whatever a host's name means later."""

    def __init__(self, hosts: CameraHosts, *, verify: bool) -> None:
        # Without connections that are kept: one to another host of the same address was verified for that host alone.
        super().__init__(verify=_tls(verify=verify), limits=httpx.Limits(max_keepalive_connections=0))
        self._hosts = hosts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises SourceError if the host may not be connected to, and what httpx raises."""
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        *others, last = permitted_addresses(host, port, self._hosts)
        for address in others:
            try:
                return super().handle_request(_at(address, request))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return super().handle_request(_at(last, request))


def _at(address: str, request: httpx.Request) -> httpx.Request:
    """The same request to an address of its host. The certificate must still be the host's."""
    extensions = {**request.extensions, "sni_hostname": request.url.host}
    url = request.url.copy_with(host=address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class _Login(httpx.Auth):
    """Answers a 401 with the user name and password, in the way that the camera asks for."""

    def __init__(self, user: str, password: str) -> None:
        self._given = bool(user or password)
        self._digest = httpx.DigestAuth(user, password)
        self._basic = httpx.BasicAuth(user, password)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED or not self._given:
            return
        challenges = response.headers.get_list("www-authenticate")
        if not any(challenge.lower().startswith("digest ") for challenge in challenges):
            yield next(self._basic.auth_flow(request))
            return
        flow = self._digest.auth_flow(request)
        next(flow)
        yield flow.send(response)


def _tls(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted_certificates())
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # old cameras have short keys
    return context


def _why(error: Exception) -> str:
    """The reason of a failure, without the words of the libraries between."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({cause.verify_message}); `verify = false` accepts every one"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT_S:g} s"
    if isinstance(error, httpx.InvalidURL):
        return "it leads to an address that is no URL, which is not opened"
    if isinstance(error, httpx.RemoteProtocolError | KeyError):
        return "it does not speak HTTP properly"
    return str(error) or type(error).__name__
