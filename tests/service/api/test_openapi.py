"""The OpenAPI document is what the server does: schemathesis asks it what the document allows, and what it does not.

A minute of it where CI is set, some seconds else; SCHEMATHESIS_SECONDS names another time.
"""

from __future__ import annotations

import os
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

_ELSEWHERE = ("forbidden-origin", "method-not-allowed", "unauthorized")
"""Problems of websockets, of methods that the document does not have, and of servers with API keys."""
_SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "60" if "CI" in os.environ else "8"))


@pytest.mark.skipif(SCHEMATHESIS is None, reason="needs schemathesis, which `make test` installs")
@pytest.mark.parametrize("keys", ["", digest(KEY)], ids=["open to all", "with an API key"])
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
        hooks = {"SCHEMATHESIS_HOOKS": "tests.service.api.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, env=os.environ | hooks, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout[done.stdout.find("= FAILURES") :] + done.stderr
        assert server.process.poll() is None
        assert server.log[6:] == []  # errors alone are logged, and there are none


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


def test_every_kind_of_problem_is_declared_where_images_are_taken(client: httpx.Client) -> None:
    declared = document(client)["paths"]["/pose"]["post"]["responses"]
    expected = {kind.status for name, kind in KINDS.items() if name not in _ELSEWHERE}
    assert {int(status) for status in declared} == {200, *expected}
    assert "Retry-After" in declared["503"]["headers"]


def test_what_the_document_refers_to_is_in_it(client: httpx.Client) -> None:
    text, schemas = client.get("/openapi.json").text, document(client)["components"]["schemas"]
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(schemas)


def test_limits_of_lists_are_those_of_the_settings(client: httpx.Client) -> None:
    body = document(client)["paths"]["/pose"]["post"]["requestBody"]["content"]
    _, images = body["application/json"]["schema"]["oneOf"]
    for array in (images["properties"]["images"], body["multipart/form-data"]["schema"]["properties"]["image"]):
        assert (array["minItems"], array["maxItems"]) == (1, 16)
