"""What an operator says about sinks: clear errors, and no secrets in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.cameras.camera_file import CameraFile, CameraFileError
from service.events.entries import JournalEntry, WebhookEntry, read_sinks, shown_url, signing_key

BAD = [
    ("[sinks.a]\ntype = 'smtp'\n", "sinks.a: Input tag 'smtp'"),
    ("[sinks.a]\nurl = 'http://joe:hush@x/'\n", "sinks.a: Unable to extract tag"),
    ("[sinks.'a/b']\ntype = 'file'\npath = '/x'\n", "sinks.a/b: "),
    ("[sinks.a]\ntype = 'webhook'\nurl = 'ftp://joe:hush@x/'\n", "a.webhook.url: it must be a URL such as http"),
    ("[sinks.a]\ntype = 'webhook'\nurl = 'http://x:hush/'\n", "a.webhook.url: it must be a URL such as http"),
    ("[sinks.a]\ntype = 'webhook'\nurl = 'http://x'\nsecret = 'hush'\n", "a.webhook.secret: it must have at least 16"),
    (
        "[sinks.a]\ntype = 'webhook'\nurl = 'http://x'\nsecret = 'whsec_hush!'\n",
        "a.webhook.secret: what follows",
    ),
    ("[sinks.a]\ntype = 'webhook'\nurl = 'http://x'\nheaders = { 'a b' = 'hush' }\n", "is no name of a header"),
    ("[sinks.a]\ntype = 'webhook'\nurl = 'http://x'\nheaders = { a = \"hush\\r\" }\n", "the value of a has characters"),
    ("[sinks.a]\ntype = 'mqtt'\nurl = 'http://joe:hush@x'\n", "a.mqtt.url: it must be a URL such as mqtt"),
    ("[sinks.a]\ntype = 'mqtt'\nurl = 'mqtt://x'\nprefix = 'a/#'\n", "a.mqtt.prefix: "),
    ("[sinks.a]\ntype = 'redis'\nurl = 'hush'\n", "a.redis.url: it must be a URL such as redis"),
    ("[sinks.a]\ntype = 'file'\npath = 'x'\n", "a.file.path: it must be an absolute path"),
    ("[sinks.a]\ntype = 'file'\npath = '/x'\nurl = 'hush'\n", "a.file.url: "),
    ("[events]\nmax_mb = 0\n", "events.max_mb: Input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_bad_entry_is_an_error_that_says_where_and_shows_no_secret(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(CameraFileError) as caught:
        CameraFile.read(path, 10)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_an_entry_shows_no_secret() -> None:
    table = {
        "type": "webhook",
        "url": "https://joe:hush@example.org:8443/token/hush?a=hush",
        "secret": "hush" * 10,
        "headers": {"Authorization": "hush"},
    }
    entry = read_sinks({"sinks": {"a": table}, "cameras": {}}).sinks["a"]
    assert isinstance(entry, WebhookEntry)
    assert "hush" not in f"{entry!r} {entry} {entry.model_dump()} {entry.model_dump_json()}"
    assert shown_url(entry.url) == "https://example.org:8443"
    assert shown_url(SecretStr("mqtt://[::1]:1883")) == "mqtt://[::1]:1883"


def test_secrets_are_base64_behind_their_mark_or_plain() -> None:
    assert signing_key(SecretStr("whsec_AAECAw==")) == bytes(range(4))
    assert signing_key(SecretStr("plain")) == b"plain"


def test_the_file_in_the_readme_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    [block] = [found for found in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[sinks." in found]
    path = tmp_path / "cameras.toml"
    path.write_text(block, "utf-8")
    found = CameraFile.read(path, 10)
    assert {entry.type for entry in found.sinks.values()} == {"webhook", "mqtt", "redis", "file"}
    assert found.events == JournalEntry()  # it says that these are the defaults
