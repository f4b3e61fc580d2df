"""Browser security: which sites' pages may use a server, and what its own pages may load."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from service.api.origins import allows_origin, content_security_policy
from tests.servers import ServerProcess

SITE = "https://shop.example"


@pytest.mark.parametrize(
    ("origin", "host", "named", "expected"),
    [
        ("", "a:8000", (), True),  # not a browser
        ("http://a:8000", "a:8000", (), True),
        ("http://A:8000", "a:8000", (), True),
        ("https://a", "a", (), True),
        ("https://a", "a:443", (), True),
        ("https://a:8443", "a", (), False),
        ("http://b:8000", "a:8000", (), False),
        ("http://a:8000.evil.example", "a:8000", (), False),
        ("http://a:x", "a:8000", (), False),
        ("null", "a:8000", (), False),
        (SITE, "a:8000", (SITE,), True),
        ("http://shop.example", "a:8000", (SITE,), False),
        ("null", "a:8000", ("*",), True),
    ],
)
def test_pages_of_the_server_and_of_allowed_origins_may_open_streams(
    origin: str, host: str, named: tuple[str, ...], expected: bool
) -> None:
    assert allows_origin(origin, host, named) is expected


def test_the_policy_allows_the_inline_scripts_of_a_page_by_hash() -> None:
    policy = content_security_policy(b"<html><script>let a = 1;</script><script src='/a.js'></script></html>")
    assert "; script-src 'self' 'sha256-xY6QKfH9PRsQnLz56nj6MBwiK5oHg+im1Jkpdp1x/Ck='; " in policy


@pytest.fixture(scope="module")
def open_to_a_site(catalogue: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"cors_origins": SITE}) as running:
        yield running


async def handshake(port: int, origin: str) -> tuple[int, bytes]:
    """Return the status and body of the response to a browser's handshake."""
    try:
        async with connect(f"ws://127.0.0.1:{port}/stream", additional_headers={"Origin": origin} if origin else {}):
            return 101, b""
    except InvalidStatus as refusal:
        return refusal.response.status_code, bytes(refusal.response.body or b"")


def test_pages_of_other_sites_open_no_streams(server: ServerProcess, open_to_a_site: ServerProcess) -> None:
    assert asyncio.run(handshake(server.port, "")) == (101, b"")
    assert asyncio.run(handshake(server.port, server.url)) == (101, b"")
    assert asyncio.run(handshake(open_to_a_site.port, SITE)) == (101, b"")
    for port, origin in ((server.port, SITE), (open_to_a_site.port, "https://other.example")):
        status, body = asyncio.run(handshake(port, origin))
        assert status == 403
        assert b"/problems/forbidden-origin" in body


def test_named_sites_may_post_images(open_to_a_site: ServerProcess, server: ServerProcess, jpeg: bytes) -> None:
    preflight = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    preflight["Access-Control-Request-Headers"] = "content-type,x-api-key"
    assert httpx.options(f"{open_to_a_site.url}/pose", headers=preflight).headers["access-control-allow-origin"] == SITE
    answer = httpx.post(f"{open_to_a_site.url}/pose", content=jpeg, headers={"Origin": SITE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SITE)
    refusal = httpx.post(f"{open_to_a_site.url}/pose", content=b"?", headers={"Origin": SITE})
    assert (refusal.status_code, refusal.headers["access-control-allow-origin"]) == (415, SITE)
    other = httpx.post(f"{open_to_a_site.url}/pose", content=jpeg, headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    assert (
        "access-control-allow-origin" not in httpx.post(f"{server.url}/pose", content=jpeg, headers=preflight).headers
    )


@pytest.mark.parametrize(
    "path", ["/livez", "/models", "/docs", "/openapi.json", "/nothing", "/docs/assets/swagger-ui.css"]
)
def test_every_response_forbids_sniffing_and_only_pages_have_a_policy(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("content-security-policy" in answer.headers) == (path == "/docs")


def test_the_policy_of_the_documentation_has_the_hash_of_its_script(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert len(re.findall("'sha256-", answer.headers["content-security-policy"])) == 1
