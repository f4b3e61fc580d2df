"""Settings from files and the environment, and the errors that name their source."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.config import Settings, SettingsError, explain


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that POSEWIRE_CONFIG names."""
    path = tmp_path / "posewire.toml"
    monkeypatch.setenv("POSEWIRE_CONFIG", str(path))
    return path


def test_the_environment_overrides_the_file_and_the_file_overrides_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('port = 1\nburst = 2\nmodel = ["a", "b"]\nproxies = "10.0.0.0/8, ::1"\n', encoding="utf-8")
    monkeypatch.setenv("POSEWIRE_BURST", "3")
    settings = Settings()
    assert (settings.port, settings.burst, settings.rate) == (1, 3, 0.0)
    assert (settings.model, settings.proxies) == (("a", "b"), ("10.0.0.0/8", "::1"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "posewire.toml cannot be read: No such file or directory"),
        ("port = \n", "posewire.toml is no TOML: Invalid value"),
        ("port = " + "[" * 5000, "posewire.toml is no TOML: "),
        ("prot = 1\n", "no setting prot, which .*posewire.toml names; did you mean port?"),
        ("[serve]\nport = 1\n", "no setting serve, which"),
    ],
)
def test_a_missing_or_invalid_file_is_named(file: Path, content: str | None, says: str) -> None:
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=says):
        Settings()


def test_a_missing_folder_of_secrets_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSEWIRE_SECRETS", str(tmp_path / "away"))
    with pytest.raises(SettingsError, match="away, which is no folder"):
        Settings()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("port = 'http'", "setting port in {file}: Input should be a valid integer"),
        ("model = 5", "setting model in {file}: Input should be a valid tuple, not 5"),
        ("proxies = ['nobody']", "setting proxies in {file}: Value error, 'nobody' does not appear to be"),
        ("redis_url = 6379", "setting redis_url in {file}: Input should be a valid string"),
    ],
)
def test_an_invalid_value_is_reported_with_its_name_and_file(file: Path, content: str, says: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert explain(raised.value).startswith(says.format(file=file))


def test_an_invalid_variable_is_not_blamed_on_the_file_and_no_secret_is_shown(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("resume_key = 12345\n", encoding="utf-8")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "12345" not in explain(raised.value)
    file.write_text("", encoding="utf-8")
    monkeypatch.setenv("POSEWIRE_WORKERS", "many")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert explain(raised.value).startswith("setting workers: ")
