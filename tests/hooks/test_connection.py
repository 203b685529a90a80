"""What a connection may say, right or wrong; how Airflow comes by it is another file's matter."""

import json
import logging
import urllib.parse
from string import printable

import pytest
import trustme
from airflow.models import Connection as StoredConnection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, Connection
from airflow.sdk.log import redact
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import AuthenticationError, ConnectionSettingsError
from airflow_provider_mediquo.hooks.connection import parse_connection
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.sandbox import Sandbox

KEYS = {"login": "an-api-key", "password": "a-secret-key"}


@pytest.fixture(autouse=True)
def usual_log(caplog):
    """At INFO, whatever a test before this one has set: at DEBUG, Airflow logs pieces of a URI."""
    caplog.set_level("INFO")


def warnings(caplog):
    """What the package has warned of."""
    return [
        record for record in caplog.records if record.name.startswith("airflow_provider_mediquo")
    ]


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
    ("field", "name"), [("login", "API key (Login)"), ("password", "Secret key (Password)")]
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_key_that_is_missing_is_named(settings, field, name, value):
    with pytest.raises(ConnectionSettingsError) as error:
        settings(**{field: value})
    assert name in str(error.value)


def test_the_keys_are_in_no_text_of_the_settings(settings):
    assert "key" not in repr(settings()).replace("api_key", "").replace("secret_key", "")


def test_both_keys_are_masked_in_logs():
    keys = {"login": "a-login-to-be-masked", "password": "a-password-to-be-masked"}
    parse_connection(Connection(conn_id="x", **keys))  # nobody else has masked them
    assert redact("a-login-to-be-masked and a-password-to-be-masked") == "*** and ***"


ODD = "a/b@c%d:e#f?g&h+i=j%2Fk l"
"""A key with all that means something in a URI."""


def quoted(text):
    return urllib.parse.quote(text, safe="")


@pytest.fixture
def odd_box(start_box):
    """A sandbox that takes odd keys only."""
    box = start_box(api_key=f"{ODD}1", secret_key=f"{ODD}2")
    MediquoHook().upsert_patients([{"code": "m-1", "first_name": "Ada", "plan": "premium"}])
    return box


def ways_to(box, extra):
    """The same connection in each form that Airflow takes, for an environment variable."""
    login, password = quoted(box.api_key), quoted(box.secret_key)
    flat = urllib.parse.urlencode({name: json.dumps(value) for name, value in extra.items()})
    nested = urllib.parse.urlencode({"__extra__": json.dumps(extra)})
    host, port = box.home.removeprefix("http://").split(":")
    connection = Connection(conn_id="x", **(box.connection | {"extra": json.dumps(extra)}))
    return {
        "JSON": json.dumps(box.connection | {"extra": extra}),
        "JSON, extra as text": json.dumps(box.connection | {"extra": json.dumps(extra)}),
        "JSON, host, port and path apart": json.dumps(
            box.connection
            | {"host": f"http://{host}", "port": int(port), "schema": "v1", "extra": extra}
        ),
        "JSON, port as text": json.dumps(
            box.connection | {"host": f"http://{host}/v1", "port": port, "extra": extra}
        ),
        "URI": f"mediquo://{login}:{password}@{quoted(box.url)}/?{flat}",
        "URI, port twice": f"mediquo://{login}:{password}@{quoted(box.url)}:{port}/?{flat}",
        "URI, scheme in front": f"mediquo://http://{login}:{password}@{host}:{port}/v1?{flat}",
        "URI, slash at the end": f"mediquo://http://{login}:{password}@{host}:{port}/v1/?{flat}",
        "URI, extra as JSON": f"mediquo://{login}:{password}@{quoted(box.url)}?{nested}",
        "URI that Airflow writes": connection.get_uri(),
        "JSON that Airflow writes": connection.as_json(),
    }


EXTRA = {"requests_per_minute": 1200, "timeout": 12.5, "verify": False, "allow_http": True}
WAYS = (
    "JSON",
    "JSON, extra as text",
    "JSON, host, port and path apart",
    "JSON, port as text",
    "URI",
    "URI, port twice",
    "URI, scheme in front",
    "URI, slash at the end",
    "URI, extra as JSON",
    "URI that Airflow writes",
    "JSON that Airflow writes",
)


@pytest.mark.parametrize("way", WAYS)
def test_any_form_that_airflow_takes_leads_to_mediquo_with_odd_keys(odd_box, monkeypatch, way):
    monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_DEFAULT", ways_to(odd_box, EXTRA)[way])
    hook = MediquoHook()
    assert hook.get_patient("m-1")["first_name"] == "Ada"
    read = hook.settings
    assert read.base_url == odd_box.url
    assert {name: getattr(read, name) for name in EXTRA} == EXTRA
    assert [type(getattr(read, name)) for name in EXTRA] == [int, float, bool, bool]


def test_all_forms_are_tried(odd_box):
    assert tuple(ways_to(odd_box, EXTRA)) == WAYS


legal_keys = st.text(printable[:95], min_size=1).filter(lambda key: key == key.strip())
both = hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@both
@given(api_key=legal_keys, secret_key=legal_keys)
@example("%", "%")
@example("://", "://")
@pytest.mark.parametrize("kind", [Connection, StoredConnection])
def test_any_legal_keys_survive_uri_and_json(kind, api_key, secret_key):
    given = kind(
        conn_id="x",
        conn_type="mediquo",
        login=api_key,
        password=secret_key,
        host="http://127.0.0.1:8484/v1",
    )
    make = getattr(kind, "from_uri", kind)  # which one of the two has
    from_uri = make(conn_id="x", uri=given.get_uri())
    for connection in (given, from_uri, kind.from_json(given.as_json(), conn_id="x")):
        read = parse_connection(connection)
        assert (read.api_key, read.secret_key) == (api_key, secret_key)
        assert read.base_url == "http://127.0.0.1:8484/v1"


@hypothesis_settings(both, max_examples=20)
@given(api_key=legal_keys, secret_key=legal_keys)
def test_any_legal_keys_arrive_at_mediquo(monkeypatch, api_key, secret_key):
    with Sandbox(latency=0, api_key=api_key, secret_key=secret_key) as box:
        uri = f"mediquo://{quoted(api_key)}:{quoted(secret_key)}@{quoted(box.url)}"
        monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_DEFAULT", uri)
        assert MediquoHook().test_connection()[0]


def test_both_keys_that_are_missing_are_named_at_once(settings):
    with pytest.raises(ConnectionSettingsError) as error:
        settings(login=None, password="")
    assert str(error.value) == (
        "Invalid mediQuo connection: it lacks the API key (Login) and the Secret key "
        "(Password).\nCopy keys from mediQuo's dashboard, and percent-encode them in a URI."
    )


@pytest.mark.parametrize(
    "uri", ["mediquo://", "mediquo://wrennestling-key@", "mediquo://:wrennestling-key@"]
)
def test_a_uri_without_a_key_is_told_to_lack_it(settings, uri):
    with pytest.raises(
        ConnectionSettingsError, match=r"it lacks the .*\n.* percent-encode"
    ) as error:
        settings(uri)
    assert "wrennestling" not in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        "wrennestling-key\n",
        " wrennestling-key",
        "wrennestling-key\t",
        "wrennestling\u00e4key",
        "  ",
    ],
)
@pytest.mark.parametrize("way", ["JSON", "URI"])
def test_a_key_with_something_stuck_to_it_is_not_sent_and_not_shown(settings, caplog, key, way):
    with pytest.raises(ConnectionSettingsError) as error:
        settings(f"mediquo://k:{quoted(key)}@") if way == "URI" else settings(password=key)
    assert str(error.value) == (
        "Invalid mediQuo connection: the Secret key (Password) has whitespace around it "
        "or a character that no header allows.\nCopy keys from mediQuo's dashboard, and "
        "percent-encode them in a URI."
    )
    assert "wrennestling" not in f"{error.value!r} {caplog.text}"


HOST = "sdk.mediquo.com/v1"


@pytest.mark.parametrize(
    "uri",
    [
        f"mediquo://wr/en:secret@{HOST}",
        f"mediquo://wr#en:secret@{HOST}",
        f"mediquo://wr?en:secret@{HOST}",
        f"mediquo://key:12/wrennestling@{HOST}",
        f"mediquo://key:12#wrennestling@{HOST}",
        f"mediquo://key:12?wrennestling@{HOST}",
        f"mediquo://key:wr/en@{HOST}",
        f"mediquo://key:wr#en@{HOST}",
        f"mediquo://key:wr?en@{HOST}",
        f"mediquo://key:wr@en/wrennestling@{HOST}",
        f"mediquo://key:wr@en?wrennestling@{HOST}",
        f"mediquo://key:wr@en?wrennestling=9@{HOST}",
        f"mediquo://key:wr@en#wrennestling@{HOST}",
        f"mediquo://key:wrennestling%e9@{HOST}",
        f"mediquo://key:wrennestling@https://{HOST}",
        f"key:wrennestling@{HOST}",
    ],
)
def test_keys_that_break_a_uri_are_told_to_be_encoded_and_not_shown(settings, caplog, uri):
    with pytest.raises((ConnectionSettingsError, AirflowNotFoundException)) as error:
        settings(uri)
    message = str(error.value)
    assert "percent-encode" in message
    assert len(message.splitlines()) <= 2
    # The rest of a key would be taken for the host.
    assert not {"wr", "en", "wrennestling"} & set(
        message.replace("/", " ").replace(":", " ").split()
    )
    assert "wrennestling" not in f"{error.value!r} {caplog.text}"


@pytest.mark.parametrize("key", ["with@at", "with%percent", "and+&=;,$!*'()~", "with a space"])
def test_what_breaks_no_uri_need_not_be_encoded(settings, key):
    read = settings(f"mediquo://{key}:{key}@{HOST}")
    assert (read.api_key, read.secret_key, read.base_url) == (key, key, f"https://{HOST}")


@pytest.mark.parametrize("way", ["%2F without encoding", ": in the API key"])
def test_keys_that_a_uri_changes_are_refused_by_mediquo_and_not_shown(
    start_box, monkeypatch, way, caplog
):
    key = "wrennestling%2Fkey" if way.startswith("%2F") else "wrennestling:key"
    box = start_box(api_key=key)
    host = box.url.removeprefix("http://")
    monkeypatch.setenv(
        "AIRFLOW_CONN_MEDIQUO_DEFAULT", f"mediquo://http://{key}:{box.secret_key}@{host}"
    )
    with pytest.raises(AuthenticationError) as error:
        MediquoHook().get_patient("m-1")
    assert "wrennestling" not in f"{error.value} {caplog.text}"


# --- no connection at all -------------------------------------------------------------------------


def test_a_connection_that_is_not_there_is_airflows_own_error():
    with pytest.raises(AirflowNotFoundException) as error:
        MediquoHook("there_is_none").get_conn()
    assert str(error.value) == (
        "The conn_id `there_is_none` isn't defined, or Airflow cannot read it.\nIf it exists, check its JSON, "
        "whose keys are `login` and `password`, with all options inside `extra`; percent-encode the keys of a URI (`/` is %2F, `@` is %40, `%` is %25), or write the "
        "connection as JSON."
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"conn_type": "mediquo", "login": "wrennestling"',
        '{"login": "key", "password": "wrennestling", "port": "soon"}',
        '{"api_key": "wrennestling", "secret_key": "wrennestling"}',
    ],
)
def test_a_connection_that_airflow_cannot_read_is_told_to_be_checked(settings, caplog, text):
    with pytest.raises(AirflowNotFoundException, match="check its JSON") as error:
        settings(text)
    assert "wrennestling" not in f"{error.value} {caplog.text}"


# --- another type ---------------------------------------------------------------------------------


@pytest.mark.parametrize("conn_type", ["mediquo", "generic", None])
def test_a_type_that_airflow_may_give_it_is_its_own(settings, caplog, conn_type):
    assert settings(conn_type=conn_type, host=HOST).base_url == f"https://{HOST}"
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"conn_type": "http", "host": HOST}, f"https://{HOST}"),
        ({"conn_type": "http", "host": HOST, "schema": "https"}, f"https://{HOST}"),
        ({"conn_type": "http", "host": "localhost/v1", "schema": "http"}, "http://localhost/v1"),
        ({"conn_type": "http", "schema": "https"}, f"https://{HOST}"),
    ],
)
def test_a_connection_of_another_type_works_with_a_warning(settings, caplog, fields, url):
    assert settings(**fields).base_url == url
    (warning,) = warnings(caplog)
    assert warning.levelno == logging.WARNING
    expected = "The connection has type 'http'; it is used as type 'mediquo'."
    assert warning.getMessage() == expected


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
        ({"schema": "v2"}, "https://sdk.mediquo.com/v2"),
        ({"host": "sdk.mediquo.com/v1", "schema": "HTTPS"}, "https://sdk.mediquo.com/v1"),
        ({"host": "https://mediquo/v1"}, "https://mediquo/v1"),
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
        ({"host": "https://sdk.mediquo.com", "schema": "v1/../.."}, "no part of the path"),
        ({"host": "sdk.mediquo.com/v1/../.."}, "no part of the path"),
        ({"host": "https://sdk.medi\nquo.com/v1"}, "characters that no URL has"),
        ({"host": "https://sdk.mediquo.com\n.example.com/v1"}, "characters that no URL has"),
        ({"host": "//sdk.mediquo.com/v1"}, "has no dot.\nIf it is right, put https:// in front"),
        ({"host": "db", "conn_type": "sqlite"}, "type is 'sqlite', .*\nCheck `mediquo_conn_id`"),
        ({"host": "file:///v1"}, "is not a URL"),
        ({"port": -1}, "is not a URL"),
        ({"port": 99999}, "is not a URL"),
        ({"host": "https://sdk.mediquo.com:443/v1", "port": 8443}, "different ports"),
        ({"extra": {"allow_http": "perhaps"}}, "`allow_http`"),
    ],
)
def test_a_url_that_cannot_work_is_refused(settings, fields, words):
    with pytest.raises(ConnectionSettingsError, match=words):
        settings(**fields)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("mediquo://key:secret@[2001:db8::1]:8443/v1", "https://[2001:db8::1]:8443/v1"),
        ("mediquo://key:secret@[2001:db8::1]/v1", "https://[2001:db8::1]/v1"),
        ("mediquo://key:secret@[::1]:8443", "https://[::1]:8443"),
        ({"host": "2001:db8::1"}, "https://[2001:db8::1]"),
        ({"host": "[2001:db8::1]/v1", "port": 8443}, "https://[2001:db8::1]:8443/v1"),
        ({"host": "2001:db8::1/v1", "port": 8443}, "https://[2001:db8::1]:8443/v1"),
        ({"host": "https://[2001:db8::1]:8443/v1"}, "https://[2001:db8::1]:8443/v1"),
    ],
)
def test_an_ipv6_address_may_be_the_host(settings, given, url):
    read = settings(given) if isinstance(given, str) else settings(**given)
    assert read.base_url == url
    assert read.host == ("::1" if "[::1]" in url else "2001:db8::1")


# --- the extra ------------------------------------------------------------------------------------


def test_without_an_extra_the_defaults_hold(settings):
    read = settings()
    assert (read.requests_per_minute, read.timeout) == (600, 30)
    assert (read.verify, read.allow_http) == (True, False)


@pytest.mark.parametrize("blank", [None, "", " ", "\t\n "])
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
    trustme.CA().cert_pem.write_to_path(str(file))
    assert settings(extra={"verify": str(file)}).verify == str(file)


@pytest.mark.parametrize("content", ["", "wrennestling", "-----BEGIN CERTIFICATE-----\nwren\n"])
def test_a_file_that_holds_no_certificate_is_said_to_hold_none(settings, tmp_path, content):
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ConnectionSettingsError, match=r"CA file on this worker \(PEM\)"):
        settings(extra={"verify": str(tmp_path / "ca.pem")})


def test_a_file_that_is_not_there_is_said_to_be_missing(settings, tmp_path):
    with pytest.raises(ConnectionSettingsError, match="existing CA file"):
        settings(extra={"verify": str(tmp_path / "none.pem")})


def test_a_certificate_in_the_place_of_its_file_is_said_to_be_no_file(settings):
    with pytest.raises(ConnectionSettingsError, match="existing CA file") as error:
        settings(extra={"verify": "-----BEGIN CERTIFICATE-----" + "wrennestling" * 2000})
    assert "wrennestling" not in str(error.value)


@pytest.mark.parametrize("value", [1, [], {"a": 1}])
def test_nothing_else_says_how_to_verify(settings, value):
    with pytest.raises(ConnectionSettingsError, match="`verify`"):
        settings(extra={"verify": value})


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"timeout": "abc"}, r"`timeout` in .* extra must be a number, such as 30\."),
        ({"requests_per_minute": "abc"}, r"`requests_per_minute` .* a number, such as 600\."),
        (
            {"requests_per_minute": 0.5},
            r"`requests_per_minute` must be 1 or more, and 1000000 at most\.",
        ),
        ({"timeout": "3601"}, r"`timeout` must be seconds above 0, and 3600 at most\."),
        ({"allow_http": "yes"}, r"`allow_http` in .* extra must be true or false\."),
        ({"verify": "yes"}, r"`verify` must be true, false or the path of an existing CA file"),
    ],
)
def test_an_extra_that_is_wrong_is_told_what_it_must_be(settings, extra, words):
    with pytest.raises(ConnectionSettingsError, match=words):
        settings(extra=extra)


@pytest.mark.parametrize(
    "extra", ["[1]", "7", "null", "not JSON", '{"timeout": 30', '{"a":' * 5000]
)
def test_an_extra_that_is_no_object_is_an_error(extra):
    connection = Connection(conn_id="x", login="key", password="secret", extra=extra)
    with pytest.raises(ConnectionSettingsError) as error:
        parse_connection(connection)
    assert str(error.value) == (
        'The connection\'s extra must be a JSON object of at most 64 KiB, such as {"timeout": 30}.'
    )


@pytest.mark.parametrize("extra", ["[1]", "not JSON"])
def test_an_extra_that_is_no_object_is_told_wherever_airflow_looks_at_it_first(settings, extra):
    # Airflow 3.1 does outside a task, and takes the connection for one that is not there.
    with pytest.raises((ConnectionSettingsError, AirflowNotFoundException), match="JSON"):
        settings(extra=extra)


@pytest.mark.parametrize("way", ["JSON", "URI"])
def test_what_is_misspelt_in_the_extra_is_named_but_not_its_value(settings, caplog, way):
    extra = {"request_per_minute": "wrennestling1", "timeout": 5, "api_key": "wrennestling2"}
    if way == "JSON":
        read = settings(extra=extra)
    else:
        read = settings("mediquo://k:s@/?" + urllib.parse.urlencode(extra))
    assert (read.requests_per_minute, read.timeout) == (600, 5)
    (warning,) = warnings(caplog)
    assert warning.levelno == logging.WARNING
    assert warning.getMessage() == (
        "Unknown extras of the connection are ignored: 'api_key', 'request_per_minute'. "
        "Known extras: 'requests_per_minute', 'timeout', 'verify', 'allow_http'."
    )


def test_an_extra_that_is_known_throughout_is_no_reason_to_warn(settings, caplog):
    settings(extra=EXTRA)
    settings("mediquo://k:s@/?" + urllib.parse.urlencode({"__extra__": json.dumps(EXTRA)}))
    assert not warnings(caplog)


def test_what_may_be_the_rest_of_a_key_is_not_named(settings, caplog):
    settings(f"mediquo://key:s@host.example.com?wrennestling&en=1@{HOST}")
    assert "are ignored: 2." in caplog.text
    assert "wrennestling" not in caplog.text


@pytest.mark.parametrize(
    "extra",
    [
        '{"timeout": 30, "x": "' + "y" * (1 << 16) + '"}',
        '{"timeout": ' + "9" * 5000 + "}",
        "[" * 10_000,
    ],
    ids=range(3),
)
def test_an_extra_has_a_bound(extra):
    connection = Connection(conn_id="x", login="key", password="secret", extra=extra)
    with pytest.raises(ConnectionSettingsError, match="must be a JSON object"):
        parse_connection(connection)


def test_the_warning_about_names_in_an_extra_has_a_limit(caplog):
    extra = {f"\x1b[2J\u202e{number}": 1 for number in range(1000)}
    parse_connection(
        Connection(conn_id="x", login="key", password="secret", extra=json.dumps(extra))
    )
    (warning,) = warnings(caplog)
    assert "and 980 more" in warning.getMessage()
    assert len(warning.getMessage()) < 2000
    assert warning.getMessage().isprintable()


@pytest.mark.parametrize("name", ["login", "password"])
@pytest.mark.parametrize("way", ["JSON", "URI"])
@pytest.mark.parametrize(
    "key",
    ["wrennestling\r\nX-Evil: 1", "wrennestling\0", "wrennestling\u00e9", "wrennestling" * 2000],
    ids=range(4),
)
def test_a_key_injects_no_header_whichever_way_it_comes(settings, caplog, name, way, key):
    keys = KEYS | {name: key}
    uri = f"mediquo://{quoted(keys['login'])}:{quoted(keys['password'])}@"
    with pytest.raises(ConnectionSettingsError, match="key") as error:
        settings(uri) if way == "URI" else settings(**keys)
    assert "wrennestling" not in f"{error.value!r} {caplog.text}"
