"""The hook: what a connection may say, what "Test" answers, and what it does with mediQuo."""

import http.server
import json
import pickle
import socket
import ssl
import threading
import urllib.parse
from contextlib import contextmanager

import pytest
import trustme
from airflow.models import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.log import redact

from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    InvalidPatientsError,
    MediquoError,
    PatientNotFoundError,
    RejectedRequestError,
    TooManyRejectsError,
)
from airflow_provider_mediquo.hooks.mediquo import MediquoHook

KEYS = {"login": "an-api-key", "password": "a-secret-key"}


@pytest.fixture
def settings(monkeypatch):
    """What the hook reads from a connection: its fields, or a URI."""

    def settings(uri=None, **fields):
        connection = uri or json.dumps({"conn_type": "mediquo", **KEYS, **fields})
        monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_TESTED", connection)
        return MediquoHook("mediquo_tested").settings

    return settings


# --- the keys -------------------------------------------------------------------------------------


def test_login_and_password_are_the_keys(settings):
    read = settings()
    assert (read.api_key, read.secret_key) == ("an-api-key", "a-secret-key")


@pytest.mark.parametrize(
    "key", ["with/slash", "with@at", "with%25percent", "with:colon", "+and=&?#"]
)
@pytest.mark.parametrize("way", ["JSON", "URI"])
def test_keys_may_hold_any_printable_character(settings, key, way):
    if way == "JSON":
        read = settings(login=key, password=key)
    else:
        quoted = urllib.parse.quote(key, safe="")
        read = settings(f"mediquo://{quoted}:{quoted}@sdk.mediquo.com/v1")
    assert (read.api_key, read.secret_key) == (key, key)


@pytest.mark.parametrize(
    ("field", "name"), [("login", "API key (Login)"), ("password", "Secret key (Password)")]
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_key_that_is_missing_is_named(settings, field, name, value):
    with pytest.raises(ConnectionSettingsError) as error:
        settings(**{field: value})
    assert name in str(error.value)


def test_a_key_with_white_space_around_it_is_not_shown(settings):
    with pytest.raises(ConnectionSettingsError) as error:
        settings(password="a-pasted-key\n")
    assert "Secret key (Password) has white space" in str(error.value)
    assert "a-pasted-key" not in str(error.value)


def test_the_keys_are_in_no_text_of_the_settings(settings):
    assert "key" not in repr(settings()).replace("api_key", "").replace("secret_key", "")


def test_both_keys_are_masked_in_logs(settings):
    keys = {"login": "a-login-to-be-masked", "password": "a-password-to-be-masked"}
    settings(**keys)
    assert redact("a-login-to-be-masked and a-password-to-be-masked") == "*** and ***"


# --- the URL --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://sdk.mediquo.com/v1"),
        ({"host": ""}, "https://sdk.mediquo.com/v1"),
        ({"host": "  "}, "https://sdk.mediquo.com/v1"),
        ({"host": "https://sdk.mediquo.com/v1/"}, "https://sdk.mediquo.com/v1"),
        ({"host": " https://sdk.mediquo.com/v1 "}, "https://sdk.mediquo.com/v1"),
        ({"host": "sdk.mediquo.com/v1"}, "https://sdk.mediquo.com/v1"),
        ({"host": "sdk.mediquo.com", "schema": "v1"}, "https://sdk.mediquo.com/v1"),
        ({"host": "sdk.mediquo.com", "schema": "/v1/"}, "https://sdk.mediquo.com/v1"),
        ({"host": "https://proxy.example.com/mediquo/v1"}, "https://proxy.example.com/mediquo/v1"),
        ({"host": "https://proxy.example.com/v1", "schema": "v2"}, "https://proxy.example.com/v1"),
        ({"host": "proxy.example.com/v1", "port": 8443}, "https://proxy.example.com:8443/v1"),
        ({"host": "proxy.example.com:8443/v1"}, "https://proxy.example.com:8443/v1"),
        (
            {"host": "https://proxy.example.com:8443/v1", "port": 8443},
            "https://proxy.example.com:8443/v1",
        ),
        ({"port": 443}, "https://sdk.mediquo.com:443/v1"),
        ({"port": 0}, "https://sdk.mediquo.com/v1"),
        ({"host": "http://127.0.0.1:8484/v1"}, "http://127.0.0.1:8484/v1"),
        ({"host": "http://localhost/v1"}, "http://localhost/v1"),
        ({"host": "http://[::1]:8484/v1"}, "http://[::1]:8484/v1"),
        ({"host": "http://box/v1", "extra": {"allow_http": True}}, "http://box/v1"),
        ({"host": "http://box/v1", "extra": {"allow_http": "true"}}, "http://box/v1"),
    ],
)
def test_the_base_url_comes_from_host_port_and_schema(settings, fields, url):
    assert settings(**fields).base_url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("mediquo://k:s@", "https://sdk.mediquo.com/v1"),
        ("mediquo://k:s@sdk.mediquo.com/v1", "https://sdk.mediquo.com/v1"),
        ("mediquo://k:s@proxy.example.com:8443/v1", "https://proxy.example.com:8443/v1"),
        ("mediquo://k:s@https%3A%2F%2Fsdk.mediquo.com%2Fv1", "https://sdk.mediquo.com/v1"),
        ("mediquo://k:s@proxy.example.com/mediquo%2Fv1", "https://proxy.example.com/mediquo/v1"),
    ],
)
def test_a_uri_leads_there_too(settings, uri, url):
    assert settings(uri).base_url == url


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": "http://sdk.mediquo.com/v1"}, "unencrypted"),
        ({"host": "http://127.0.0.1.example.com/v1"}, "unencrypted"),
        ({"host": "http://box/v1", "extra": {"allow_http": False}}, "unencrypted"),
        ({"host": "http://box/v1", "extra": {"allow_http": "false"}}, "unencrypted"),
        ({"host": "ftp://sdk.mediquo.com/v1"}, "must begin with https://"),
        ({"host": "https://a:b@sdk.mediquo.com/v1"}, "must not hold a user"),
        ({"host": "https://sdk.mediquo.com:port/v1"}, "is not a URL"),
        ({"host": "https://"}, "is not a URL"),
        ({"host": "https://sdk.mediquo.com:443/v1", "port": 8443}, "different ports"),
        ({"extra": {"allow_http": "perhaps"}}, "`allow_http`"),
    ],
)
def test_a_url_that_cannot_work_is_refused(settings, fields, words):
    with pytest.raises(ConnectionSettingsError, match=words):
        settings(**fields)


# --- the extra ------------------------------------------------------------------------------------


def test_without_an_extra_the_defaults_hold(settings):
    read = settings()
    assert (read.requests_per_minute, read.timeout) == (600, 30)
    assert (read.verify, read.allow_http) == (True, False)


@pytest.mark.parametrize("blank", [None, ""])
def test_what_is_left_blank_in_the_form_is_the_default(settings, blank):
    names = ("requests_per_minute", "timeout", "verify", "allow_http")
    read = settings(extra=dict.fromkeys(names, blank))
    assert (read.requests_per_minute, read.timeout) == (600, 30)
    assert (read.verify, read.allow_http) == (True, False)


@pytest.mark.parametrize("way", ["JSON", "JSON as text", "URI"])
def test_numbers_and_truths_may_be_text_as_they_are_from_a_uri(settings, way):
    extra = {"requests_per_minute": 12, "timeout": 2.5, "verify": False, "allow_http": True}
    if way == "JSON":
        read = settings(extra=extra)
    elif way == "JSON as text":
        read = settings(extra=json.dumps({name: str(value) for name, value in extra.items()}))
    else:
        read = settings("mediquo://k:s@sdk.mediquo.com/v1?" + urllib.parse.urlencode(extra).lower())
    assert (read.requests_per_minute, read.timeout) == (12, 2.5)
    assert (read.verify, read.allow_http) == (False, True)


@pytest.mark.parametrize("name", ["requests_per_minute", "timeout"])
@pytest.mark.parametrize("value", ["soon", True, [1], {}, "nan", "inf", 0, -1, "1e999"])
def test_a_number_that_is_none_is_named_and_not_shown(settings, name, value):
    with pytest.raises(ConnectionSettingsError) as error:
        settings(extra={name: value})
    assert f"`{name}`" in str(error.value)


@pytest.mark.parametrize(
    ("given", "read"),
    [(True, True), ("true", True), ("True", True), (False, False), ("false", False)],
)
def test_the_certificate_is_verified_or_not(settings, given, read):
    assert settings(extra={"verify": given}).verify is read


def test_it_may_be_verified_with_a_file(settings, tmp_path):
    file = tmp_path / "ca.pem"
    file.touch()
    assert settings(extra={"verify": str(file)}).verify == str(file)


def test_a_file_that_is_not_there_is_said_to_be_missing(settings, tmp_path):
    with pytest.raises(ConnectionSettingsError, match="existing CA file"):
        settings(extra={"verify": str(tmp_path / "none.pem")})


@pytest.mark.parametrize("value", [1, [], {"a": 1}])
def test_nothing_else_says_how_to_verify(settings, value):
    with pytest.raises(ConnectionSettingsError, match="`verify`"):
        settings(extra={"verify": value})


def test_a_connection_that_is_not_there_is_airflows_own_error():
    with pytest.raises(AirflowNotFoundException, match="there_is_none"):
        MediquoHook("there_is_none").get_conn()


def test_nothing_is_looked_up_until_it_is_needed():
    MediquoHook("there_is_none")


def test_the_client_is_the_same_each_time(box):
    hook = MediquoHook()
    assert hook.get_conn() is hook.get_conn()


# --- "Test" ---------------------------------------------------------------------------------------


@contextmanager
def https_server(context):
    """Answer every GET as mediQuo does for a patient that nobody has."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"message": "Not found"}'
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *args):
            """A client that refuses the certificate leaves in the middle."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def https_url(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with https_server(context) as url:
        yield url


def test_a_connection_that_works_is_told_to(box):
    works, message = MediquoHook().test_connection()
    assert works
    assert box.url in message


@pytest.mark.parametrize("key", ["login", "password"])
def test_a_wrong_key_is_told_to_be_wrong(box, connect, key):
    connect(box, **{key: "another-key-than-that"})
    works, message = MediquoHook().test_connection()
    assert not works
    assert "does not accept these keys" in message
    assert "another-key-than-that" not in message


@pytest.mark.parametrize("path", ["", "/v2", "/sandbox"])
def test_a_wrong_base_url_is_told_to_be_wrong(box, connect, path):
    connect(box, host=box.home + path)
    works, message = MediquoHook().test_connection()
    assert not works
    assert "Check the Base URL (Host)" in message


def test_a_host_that_does_not_answer_is_told_not_to(box, connect):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    connect(box, host=f"http://127.0.0.1:{port}/v1")
    works, message = MediquoHook().test_connection()
    assert not works
    assert "No answer from 127.0.0.1" in message


def test_a_certificate_that_nobody_trusts_is_told_to_be_refused(box, connect, https_url):
    connect(box, host=https_url)
    works, message = MediquoHook().test_connection()
    assert not works
    assert "The certificate of 127.0.0.1 was refused" in message


def test_a_certificate_of_ones_own_authority_is_trusted(
    box, connect, https_url, authority, tmp_path
):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    connect(box, host=https_url, extra={"verify": str(tmp_path / "ca.pem")})
    assert MediquoHook().test_connection()[0]


def test_a_mediquo_that_is_down_is_told_to_be(box):
    box.script("get", "503")
    works, message = MediquoHook().test_connection()
    assert not works
    assert "503" in message
    assert box.counters.total == 1


def test_settings_that_cannot_work_are_told(box, connect):
    connect(box, password="")
    assert MediquoHook().test_connection()[1].startswith("The mediQuo connection cannot work")


# Airflow's own way to the hook, in its API server.
@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")
def test_the_button_of_airflow_asks_the_hook(box, monkeypatch):
    fields = {name: box.connection[name] for name in ("login", "password", "host")}
    connection = Connection(conn_id="tried", conn_type="mediquo", port=None, **fields)
    monkeypatch.setenv("AIRFLOW_CONN_TRIED", connection.as_json())
    works, message = connection.test_connection()
    assert works, message
    assert box.counters.requests["get"]["404"] == 1


# --- patients -------------------------------------------------------------------------------------

ADA = {"code": "a/1 %", "first_name": "Ada", "plan": "premium", "birth_date": "1990-04-12"}


def test_a_patient_that_was_upserted_can_be_read(box):
    report = MediquoHook().upsert_patients([ADA])
    assert (report.read, report.upserted) == (1, 1)
    assert report.as_dict()["upserted"] == 1
    patient = MediquoHook().get_patient("a/1 %")
    assert {name: patient[name] for name in ADA} == ADA
    assert patient["updated_at"].utcoffset().total_seconds() == 0


def test_a_patient_that_nobody_has_is_none(box):
    assert MediquoHook().get_patient("a/1 %") is None


def test_a_token_can_be_used_but_is_neither_shown_nor_logged(box):
    hook = MediquoHook()
    hook.upsert_patients([ADA])
    token = hook.authenticate_patient("a/1 %")
    assert len(token.access_token) > 20
    assert token.access_token not in f"{token} {token!r}"
    assert redact(f"Bearer {token.access_token}") == "Bearer ***"


@pytest.mark.parametrize("status", [404, 401])
def test_nobody_can_log_in_who_is_unknown(box, status):
    box.settings.unknown_patient_status = status
    with pytest.raises(PatientNotFoundError):
        MediquoHook().authenticate_patient("m-1")


def test_an_upsert_takes_every_option(box, tmp_path):
    report = MediquoHook().upsert_patients(
        ({"id": f"m-{number}", "first_name": "Ada", "junk": 1} for number in range(5)),
        rejects_name="rejects.jsonl",
        max_rejects=1,
        rejects_path=str(tmp_path),
        max_without_plan=None,
        columns={"id": "code", "junk": None},
        chunk_size=2,
        max_in_flight=1,
    )
    assert (report.upserted, report.without_plan, report.requests) == (5, 5, 3)
    assert box.counters.max_in_flight == 1
    assert not list(tmp_path.iterdir()), "nothing was rejected"


def test_rejects_have_a_file_of_their_own_each_time(box, tmp_path):
    for scheme in ("", "file://"):
        report = MediquoHook().upsert_patients(
            [{"code": "bad"}], max_rejects=1, rejects_path=f"{scheme}{tmp_path}"
        )
        with open(report.rejects_path, encoding="utf-8") as file:
            assert json.load(file)["code"] == "bad"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("option", [{"chunk_size": 0}, {"max_rejects": 1.0}, {"unheard_of": 1}])
def test_an_option_that_makes_no_sense_is_refused(box, option):
    with pytest.raises((ValueError, TypeError), match=next(iter(option))):
        MediquoHook().upsert_patients([ADA], **option)
    assert box.counters.total == 0


@pytest.mark.parametrize("patients", ["text", b"bytes", ADA, None, 7])
def test_what_is_no_list_of_patients_is_refused(box, patients):
    with pytest.raises(InvalidPatientsError, match="must be a list"):
        MediquoHook().upsert_patients(patients)


def test_an_upsert_that_fails_carries_its_ledger(box):
    with pytest.raises(TooManyRejectsError) as error:
        MediquoHook().upsert_patients([ADA, {"code": "bad"}])
    assert (error.value.report.upserted, error.value.report.invalid) == (1, 1)


def test_wrong_keys_end_an_upsert(box, connect):
    connect(box, password="another-secret-key")
    with pytest.raises(AuthenticationError) as error:
        MediquoHook().upsert_patients([ADA])
    assert error.value.status == 401
    assert error.value.report.unsettled == 1


def test_an_error_can_be_told_from_another_by_its_status(box):
    box.script("get", "400")
    with pytest.raises(RejectedRequestError) as error:
        MediquoHook().get_patient("m-1")
    assert error.value.status == 400


def test_one_hook_can_upsert_again_and_again(box):
    hook = MediquoHook()
    assert [hook.upsert_patients([ADA]).upserted for _ in range(3)] == [1, 1, 1]


def test_to_stop_what_is_not_under_way_does_nothing():
    MediquoHook().stop()


def test_errors_survive_the_way_between_processes(box):
    with pytest.raises(MediquoError) as error:
        MediquoHook().upsert_patients([ADA, {"code": "bad"}])
    copy = pickle.loads(pickle.dumps(error.value))
    assert str(copy) == str(error.value)
    assert copy.report.upserted == 1


@pytest.mark.parametrize("extra", ["[1]", "7", "not JSON"])
def test_an_extra_that_is_no_object_is_an_error(settings, extra):
    with pytest.raises(ConnectionSettingsError, match="extra must be a JSON object"):
        settings(extra=extra)


def test_what_stays_on_this_machine_goes_through_no_proxy(box, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert MediquoHook().test_connection()[0]
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()
