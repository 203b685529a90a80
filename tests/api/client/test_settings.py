import os
from typing import Any

import pytest

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.errors import ConnectionSettingsError


def make(**fields: Any) -> Settings:
    return Settings(
        **{"api_key": "canaryinamine-api", "secret_key": "canaryinamine-secret"} | fields
    )


def test_the_defaults_are_mediquos_own():
    settings = make()
    assert settings.base_url == "https://sdk.mediquo.com/v1"
    assert settings.host == "sdk.mediquo.com"
    assert (settings.requests_per_minute, settings.timeout, settings.verify) == (600, 30.0, True)


def test_a_slash_at_the_end_of_the_base_url_is_dropped():
    assert make(base_url="https://example.com/v1//").base_url == "https://example.com/v1"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8484/v1", "http://localhost/v1", "http://[::1]:1/v1", "HTTPS://example.com"],
)
def test_plain_http_is_for_this_machine(url):
    assert make(base_url=url)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/v1", "http://10.0.0.1/v1", "http://localhost.example.com", "http://127.1"],
)
def test_plain_http_to_another_host_needs_a_word(url):
    with pytest.raises(ConnectionSettingsError, match="allow_http"):
        make(base_url=url)
    assert make(base_url=url, allow_http=True)


@pytest.mark.parametrize(
    "host", ["notlocalhost", "my.localhost", "127.0.0.1.example.com", "0.0.0.0", "128.0.0.1"]
)
def test_a_host_that_only_looks_like_this_machine_is_another(host):
    with pytest.raises(ConnectionSettingsError, match="allow_http"):
        make(base_url=f"http://{host}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sdk.mediquo.com/v1",
        "https://",
        "https:///v1",
        "ftp://example.com",
        "file:///v1",
        "https://user:pass@example.com/v1",
        "https://example.com@example.org/v1",
        "https://example.com/v1?x=1",
        "https://example.com/v1#x",
        "https://example.com/v1?",
        "https://example.com/v1#",
        "https://example.com:0/v1",
        "https://example.com:99999/v1",
        "https://example.com:port/v1",
        "https://[::1/v1",
        "https://exam ple.com/v1",
        "https://example.com/v1\n",
        "https://example.com/v1\r\nX-Evil: 1",
        "https://ex\u00e4mple.com/v1",
        "https://m\u0435diquo.com/v1",  # its first e is Cyrillic
        "https://example.com\\@example.org/v1",
        "https://example.com/v1/..",
        "https://example.com/v1/../..",
        "https://example.com/./v1",
        "https://example.com/%2e%2e/v1",
        "https://example.com/v1/%2E%2E%2Fv2",
        "https://example.com:-1/v1",
        "//example.com/v1",
        "https://exa\tmple.com/v1",
        "https://exa\x00mple.com/v1",
        "https://example.com/" + "x" * 2000,
        "https://" + "x" * 10_000_000,
    ],
)
def test_what_is_no_base_url_is_refused(url):
    with pytest.raises(ConnectionSettingsError, match="Base URL"):
        make(base_url=url)


@pytest.mark.parametrize("name", ["api_key", "secret_key"])
@pytest.mark.parametrize(
    "key",
    ["", " wren", "wren\n", "wr\r\nen", "wren\u00e4", "wren\x00", "wren\x7f", "wren" * 1025],
    ids=range(8),
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(name, key):
    with pytest.raises(ConnectionSettingsError) as caught:
        make(**{name: key})
    assert "wren" not in str(caught.value)
    assert {"api_key": "API key", "secret_key": "Secret key"}[name] in str(caught.value)


def test_a_key_may_have_4096_characters():
    assert make(api_key="x" * 4096)


def test_a_pipe_in_the_place_of_a_ca_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConnectionSettingsError, match="CA file"):
        make(verify=str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": -1},
        {"requests_per_minute": 10**30},
        {"requests_per_minute": float("nan")},
        {"requests_per_minute": float("inf")},
        {"timeout": 1e308},
        {"verify": "/dev/zero"},
        {"verify": "/"},
        {"verify": "a\0b"},
        {"verify": "x" * 10_000},
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": 1e12},
        {"verify": "/no/such/file.pem"},
        {"verify": ""},
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(wrong):
    (name,) = wrong
    with pytest.raises(ConnectionSettingsError, match=name):
        make(**wrong)


def test_neither_settings_nor_client_show_a_key():
    settings = make()
    assert "canaryinamine" not in repr(settings)
    client = MediquoClient(settings)
    assert "canaryinamine" not in repr(client)
    assert "sdk.mediquo.com" in repr(client)
