"""The files of the page as they are served: their headers, their size, and who may have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api.security import digest
from service.api.web import ASSETS
from tests.servers import ServerProcess

KEY = "a-long-random-key"
WEB = Path(__file__).parents[3] / "service/web"


@pytest.fixture(scope="module")
def guarded(catalogue: Path) -> Iterator[ServerProcess]:
    """A server that requires API keys."""
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"api_keys": digest(KEY)}) as running:
        yield running


@pytest.mark.parametrize("path", ASSETS)
def test_a_file_is_served_with_its_type_and_a_browser_asks_each_time(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (200, ASSETS[path].content)
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "webp": "image/webp"}
    assert answer.headers["content-type"].startswith(kinds.get(path.rpartition(".")[2], "text/html"))
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-cache", "nosniff")


@pytest.mark.parametrize("path", ["/", "/client.js"])
def test_a_file_that_the_browser_has_is_not_sent_again(path: str, client: httpx.Client) -> None:
    tag = client.get(path).headers["etag"]
    for known in (tag, f'"another", W/{tag}', "*"):
        answer = client.get(path, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"if-none-match": '"another"'}).status_code == 200


def test_head_gives_the_headers_of_the_page_without_it(client: httpx.Client) -> None:
    answer, full = client.head("/"), client.get("/")
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert answer.headers[name] == full.headers[name]


def test_the_page_takes_only_get(client: httpx.Client) -> None:
    answer = client.post("/", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(client: httpx.Client) -> None:
    [policy] = client.get("/").headers.get_list("content-security-policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert (rules["script-src"], rules["style-src"], rules["connect-src"]) == ("'self'", "'self'", "'self'")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_has_no_inline_script_or_style() -> None:
    page = ASSETS["/"].content.decode()
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", page) == []
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page) == []


def test_all_files_together_are_small() -> None:
    assert sum(len(asset.content) for asset in ASSETS.values()) < 150_000


def test_the_page_loads_all_modules_at_once() -> None:
    """A module that the page does not announce is found only when the one that imports it has arrived."""
    announced = set(re.findall(r'(?:modulepreload" href|module" src)="([^"]+)"', ASSETS["/"].content.decode()))
    later = {"jpeg_worker.js"}  # a worker loads it when there is a stream
    assert announced == {path.removeprefix("/") for path in ASSETS if path.endswith(".js")} - later


def test_the_package_for_npm_contains_the_modules_of_the_client() -> None:
    package = json.loads((WEB / "package.json").read_text("utf-8"))
    needed, seen = [package["exports"]], set()
    while needed:
        name = needed.pop().removeprefix("./")
        if name not in seen:
            seen.add(name)
            text = (WEB / name).read_text("utf-8")
            needed += re.findall(r'^(?:im|ex)port .* from "(.+)";$', text, re.MULTILINE)
            needed += re.findall(r'new Worker\(new URL\("(.+?)"', text)
    assert seen == set(package["files"])


def test_files_beside_the_page_are_not_served(client: httpx.Client) -> None:
    for path in ("/package.json", "/page/", "/page/../../config.py", "/page/%2e%2e/index.html"):
        assert client.get(path).status_code == 404


def test_the_page_needs_no_key_and_what_it_asks_for_does(guarded: ServerProcess) -> None:
    with httpx.Client(base_url=guarded.url) as client:
        assert all(client.get(path).status_code == 200 for path in ASSETS)
        for path in ("/models", "/skeletons", "/docs"):
            assert client.get(path).status_code == 401
        assert client.get("/models", headers={"x-api-key": KEY}).status_code == 200
