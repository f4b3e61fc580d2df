"""The OpenAPI document describes the server: schemathesis sends requests that it allows, and others.

That takes a minute if CI is set, and some seconds otherwise; SCHEMATHESIS_SECONDS sets another time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.problems import KINDS
from service.api.security import digest
from tests.servers import ServerProcess

ROOT = Path(__file__).parents[3]
KEY = "known to this test"
SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))

_ELSEWHERE = (
    *("forbidden-origin", "method-not-allowed", "unauthorized", "not-ready", "disk-full"),
    *("admin-only", "camera-conflict"),
)
"""Problems of websockets, of undocumented methods, of servers with API keys, of video jobs, and of cameras."""
_SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "60" if "CI" in os.environ else "8"))


@pytest.mark.skipif(SCHEMATHESIS is None, reason="needs schemathesis, which `make test` installs")
@pytest.mark.parametrize("keys", ["", digest(KEY)], ids=["without keys", "with an API key"])
def test_schemathesis_finds_nothing(catalogue: Path, keys: str, tmp_path: Path) -> None:
    environment = {"api_keys": keys, "log_level": "error"}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as server:
        described = tmp_path / "openapi.json"
        described.write_bytes(httpx.get(f"{server.url}/openapi.json", headers={"X-API-Key": KEY}).content)
        config = tmp_path / "schemathesis.toml"
        auth = f'[auth.openapi.header]\napi_key = "{KEY}"\n' if keys else ""
        config.write_text(Path(__file__).with_name("schemathesis.toml").read_text("utf-8") + auth, "utf-8")
        # fmt: off
        command = [
            str(SCHEMATHESIS), "--no-color", "--config-file", str(config),
            "run", str(described), "--url", server.url, "--checks", "all", "--max-time", str(max(1, _SECONDS // 2)),
            "--continue-on-failure", "--generation-database", "none",
        ]
        # fmt: on
        variables = {"SCHEMATHESIS_HOOKS": "tests.service.api.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        variables |= {"PYTHONUTF8": "1"}  # it prints symbols, and fails in a locale that has none
        done = subprocess.run(
            command, env=os.environ | variables, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout[done.stdout.find("= FAILURES") :] + done.stderr
        assert server.process.poll() is None
        assert server.log[6:] == []  # only errors are logged, and there are none


def document(client: httpx.Client) -> dict[str, Any]:
    described: dict[str, Any] = client.get("/openapi.json").json()
    return described


def test_every_error_is_declared_as_a_problem_document(client: httpx.Client) -> None:
    for path, item in document(client)["paths"].items():
        for operation in item.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    [(media_type, content)] = response["content"].items()
                    assert media_type == "application/problem+json"
                    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_kind_of_problem_is_declared_for_pose(client: httpx.Client) -> None:
    declared = document(client)["paths"]["/pose"]["post"]["responses"]
    expected = {kind.status for name, kind in KINDS.items() if name not in _ELSEWHERE}
    assert {int(status) for status in declared} == {200, *expected}
    assert "Retry-After" in declared["503"]["headers"]


def test_all_references_of_the_document_resolve(client: httpx.Client) -> None:
    text, schemas = client.get("/openapi.json").text, document(client)["components"]["schemas"]
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(schemas)


def test_lists_have_the_limits_of_the_settings(client: httpx.Client) -> None:
    body = document(client)["paths"]["/pose"]["post"]["requestBody"]["content"]
    _, images = body["application/json"]["schema"]["oneOf"]
    for array in (images["properties"]["images"], body["multipart/form-data"]["schema"]["properties"]["image"]):
        assert (array["minItems"], array["maxItems"]) == (1, 16)


def test_the_docs_page_loads_from_this_server_alone(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 3  # script, style, icon
    for asset in assets:
        assert asset.startswith("/docs/assets/")
        assert client.get(asset).status_code == 200


def test_the_description_links_to_the_page_about_streams(client: httpx.Client) -> None:
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
    assert named == {
        *("model", "min_score", "max_people", "skeleton", "format", "timeout_ms", "priority"),
        *("boxes", "ids", "labels", "colours", "blur", "background"),
    }


def test_the_document_has_every_route_and_type_of_body(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/pose", "/models", "/skeletons", "/livez", "/readyz", "/metrics"} <= set(schema["paths"])
    body = schema["paths"]["/pose"]["post"]["requestBody"]["content"]
    assert {"image/jpeg", "multipart/form-data", "application/json"} <= set(body)
    assert client.get("/docs").status_code == 200
