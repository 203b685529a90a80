"""The hook: what "Test" answers, and what it does with mediQuo."""

import http.server
import json
import pickle
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest
import trustme
from airflow.models import Connection
from airflow.sdk.log import redact

from airflow_provider_mediquo.api.client.rate_limit import SHARED_LIMITERS
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    InvalidPatientsError,
    MediquoError,
    PatientNotFoundError,
    RejectedRequestError,
    StoppedError,
    TooManyRejectsError,
)
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from tests.support.threads import join, launch


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
        launch(thread)
        yield f"https://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        join(thread)


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


def test_a_test_of_the_connection_counts_towards_the_limit(box):
    assert MediquoHook().test_connection()[0]
    assert SHARED_LIMITERS.get(box.url, "patients/{code}").try_acquire(1) > 0


def test_a_test_of_the_connection_waits_for_no_limit(box):
    box.script("get", "429:300")
    started = time.monotonic()
    assert not MediquoHook().test_connection()[0]
    works, message = MediquoHook().test_connection()
    assert not works
    assert re.fullmatch(
        r"The limit of requests per minute is used up for another (29\d|300) s\.", message
    )
    assert time.monotonic() - started < 10
    assert box.counters.total == 1


@pytest.mark.parametrize("key", ["login", "password"])
def test_a_wrong_key_is_told_to_be_wrong(box, connect, key):
    connect(box, **{key: "another-key-than-that"})
    works, message = MediquoHook().test_connection()
    assert not works
    assert "invalid keys, or they lack permission" in message
    assert "another-key-than-that" not in message


@pytest.mark.parametrize("path", ["", "/v2", "/sandbox"])
def test_a_wrong_base_url_is_told_to_be_wrong(box, connect, path):
    connect(box, host=box.home + path)
    works, message = MediquoHook().test_connection()
    assert not works
    assert "Check the Base URL (Host)" in message


def test_a_host_that_does_not_answer_is_told_not_to(box, connect):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # without `listen`: nobody else can take the port
        connect(box, host=f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
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
    assert MediquoHook().test_connection() == (
        False,
        "Invalid mediQuo connection: it lacks the Secret key (Password). Copy keys from mediQuo's "
        "dashboard, and percent-encode them in a URI.",
    )


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


@pytest.mark.parametrize("name", ["../../a", "/a", "folder/a.jsonl", "..\\a", ".", "..", "a\n", 5])
def test_the_name_of_a_reject_report_does_not_leave_its_folder(box, tmp_path, name):
    folder = tmp_path / "x" / "y"
    with pytest.raises(ValueError, match="`rejects_name` must be a file name"):
        MediquoHook().upsert_patients(
            [{"code": "bad"}], max_rejects=1, rejects_path=str(folder), rejects_name=name
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [{"chunk_size": 0}, {"max_rejects": 1.0}, {"unheard_of": 1}])
def test_an_option_that_makes_no_sense_is_refused(box, option):
    with pytest.raises((ValueError, TypeError), match=next(iter(option))):
        MediquoHook().upsert_patients([ADA], **option)
    assert box.counters.total == 0


@pytest.mark.parametrize("patients", ["text", b"bytes", ADA, None, 7])
def test_what_is_no_list_of_patients_is_refused(box, patients):
    with pytest.raises(InvalidPatientsError, match="must be a list"):
        MediquoHook().upsert_patients(patients)


@pytest.mark.parametrize(
    "folder", ["{}/x", "~/x", "file://{}/x", "file://localhost{}/x", "file://~/x"]
)
def test_the_rejects_path_may_be_a_file_url_or_below_home(box, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    report = MediquoHook().upsert_patients(
        [{"code": "bad"}],
        max_rejects=1,
        rejects_path=folder.format(tmp_path),
        rejects_name="a.jsonl",
    )
    assert report.rejects_path == f"{tmp_path}/x/a.jsonl"
    assert (tmp_path / "x" / "a.jsonl").read_text().count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    "wrong", [{"max_rejects": "0.5"}, {"chunk_size": 101}, {"columns": {"a": "kode"}}]
)
def test_an_invalid_option_is_a_value_error_before_anything_is_read(wrong):
    def patients():
        pytest.fail("it was read")
        yield

    (name,) = wrong
    with pytest.raises(ValueError, match=name) as error:
        MediquoHook("there_is_none").upsert_patients(patients(), **wrong)
    assert type(error.value) is ValueError


def test_a_misspelt_option_is_a_type_error():
    with pytest.raises(TypeError, match="max_reject"):
        MediquoHook("there_is_none").upsert_patients([], max_reject=1)


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


def test_what_begins_after_it_was_stopped_sends_nothing(box, people):
    """As where a task is killed while its function makes the list of them."""
    hook = MediquoHook()
    hook.stop()
    with pytest.raises(StoppedError):
        hook.upsert_patients(people(3))
    with pytest.raises(StoppedError):
        hook.get_patient("m-1")
    assert box.counters.total == 0


def test_to_stop_what_is_not_under_way_does_nothing():
    MediquoHook().stop()


class LeavesItsSource(BaseException):
    """As where a signal handler stops an upload that reads in the thread it interrupted."""


class Stopped:
    """Stands for an upload, and remembers that it was stopped."""

    def __init__(self, error=None):
        self.error, self.times = error, 0

    def stop(self):
        self.times += 1
        if self.error:
            raise self.error


@pytest.mark.parametrize("at", [0, 1, 2])
def test_every_upload_is_stopped_whichever_leaves_its_source(at):
    hook = MediquoHook()
    uploads = [Stopped(LeavesItsSource() if number == at else None) for number in range(3)]
    hook._uploads.extend(uploads)
    with pytest.raises(LeavesItsSource):
        hook.stop()
    assert [upload.times for upload in uploads] == [1, 1, 1]


def test_errors_survive_the_way_between_processes(box):
    with pytest.raises(MediquoError) as error:
        MediquoHook().upsert_patients([ADA, {"code": "bad"}])
    copy = pickle.loads(pickle.dumps(error.value))
    assert str(copy) == str(error.value)
    assert copy.report.upserted == 1


def test_what_stays_on_this_machine_goes_through_no_proxy(box, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert MediquoHook().test_connection()[0]
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.no_cover
def test_all_that_is_under_way_is_stopped(box, eventually):
    box.settings.latency = 0.05
    hook, errors = MediquoHook(), []

    def people():
        number = 0
        while True:
            number += 1
            yield {"code": f"m-{threading.get_ident()}-{number}", "first_name": "A", "plan": "b"}

    def upload():
        try:
            hook.upsert_patients(people())
        except MediquoError as error:
            errors.append(error)

    threads = [threading.Thread(target=upload) for _ in range(2)]
    launch(*threads)
    try:
        eventually(lambda: len(hook._uploads) == 2 and box.counters.accepted > 1000)
    finally:
        hook.stop()
    join(*threads)
    assert [type(error) for error in errors] == [StoppedError] * 2
    assert hook._uploads == []
