"""The page that explains the API, and the examples on it."""

from __future__ import annotations

import re

import httpx
import pytest


def test_the_page_needs_nothing_from_anywhere_else(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 3  # script, style, icon
    for asset in assets:
        assert asset.startswith("/docs/assets/")
        assert client.get(asset).status_code == 200


def test_it_leads_to_the_page_of_streams(client: httpx.Client) -> None:
    [link] = re.findall(r"\]\((.+?)\)", client.get("/openapi.json").json()["info"]["description"])
    assert client.get(str(client.base_url.join("/docs").join(link))).status_code == 200


def test_the_json_example_works_as_it_stands(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/pose"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = client.post("/pose", json=example)
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == (32, 24)


def test_every_parameter_is_described(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/pose"]["post"]
    named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert named == {"model", "min_score", "max_people", "skeleton", "format", "timeout_ms", "priority"}


def test_who_opens_the_address_itself_finds_the_page(client: httpx.Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "docs")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/models", "/docs"])
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    answer, whole = client.head(path), client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == whole.headers["content-length"]
    assert answer.headers["content-type"] == whole.headers["content-type"]
