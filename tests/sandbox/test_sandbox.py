import socket
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from airflow_provider_mediquo.sandbox import Sandbox


def test_the_connection_leads_to_the_sandbox(client):
    assert client.box.connection == {
        "conn_type": "mediquo",
        "login": client.box.api_key,
        "password": client.box.secret_key,
        "host": client.box.url,
    }
    assert client.box.url == f"{client.box.home}/v1"


def test_the_connection_allows_plain_http_only_beyond_loopback():
    assert "extra" not in Sandbox(host="0.0.0.0").connection
    assert "extra" not in Sandbox(host="::1").connection
    assert Sandbox(host="mediquo.example.com").connection["extra"] == {"allow_http": True}


def test_an_ipv6_address_is_in_brackets():
    assert Sandbox(host="::1", port=8484).url == "http://[::1]:8484/v1"


@pytest.mark.parametrize("settings", [{"unheard_of": 1}, {"lag": -1}, {"window": "none"}])
def test_an_invalid_setting_is_an_error(settings):
    with pytest.raises(ValidationError):
        Sandbox(**settings)


def test_a_setting_is_validated_when_it_is_changed(client):
    with pytest.raises(ValidationError):
        client.box.settings.lag = -1
    with pytest.raises(ValidationError):
        client.box.settings.legacy = 1


def test_a_port_in_use_is_an_error(client):
    port = int(client.box.home.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=port).start()


def test_patients_read_as_a_mapping(client, patient):
    client.put(patient)
    assert dict(client.box.patients) == {"m-1": client.get().json()}
    assert "m-1" in client.box.patients
    assert "other" not in client.box.patients


def test_stopping_twice_is_no_error():
    sandbox = Sandbox().start()
    sandbox.stop()
    sandbox.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((urlsplit(sandbox.home).hostname, urlsplit(sandbox.home).port), 10)
