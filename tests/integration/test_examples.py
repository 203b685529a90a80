"""The example DAGs, run whole against a mediQuo on a socket."""

import csv
import gzip
import json
import re
import urllib.request

import pytest
from airflow.sdk import DAG, task, task_group

from airflow_provider_mediquo.api.sync.audit import upper_bound
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from tests.conftest import EXAMPLES

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # 3.1
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

pytestmark = [
    pytest.mark.no_cover,
    # Airflow's own: how it reads an `.airflowignore`, and the API server inside `dag.test()`.
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'HTTP_422_UNPROCESSABLE_ENTITY':DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
RULES_OF_ROWS = {
    17: {"birth_date": "date"},
    48: {"phone": "prefix"},
    95: {"email": "email"},
    131: {"first_name": "required"},
    164: {"gender": "choice"},
    202: {"birth_date": "future"},
    239: {"locale": "choice"},
    277: {"code": "duplicate"},
}


@pytest.fixture(scope="module")
def bag():
    return DagBag(EXAMPLES)


def test_there_are_examples(bag):
    assert sorted(bag.dags) == NAMES
    assert {"mediquo_classic", "mediquo_files", "mediquo_nightly"} < {*NAMES}


def test_they_are_read_without_an_error(bag):
    assert bag.import_errors == {}


@pytest.mark.parametrize(
    "name", ["approval", "audit", "files", "messy_file", "nightly", "sharded", "warehouse"]
)
def test_a_task_whose_worker_is_gone_is_tried_again(bag, name):
    assert all(task.retries for task in bag.dags[f"mediquo_{name}"].tasks)


def test_no_answer_is_no_approval_and_does_not_stop_the_next_night(bag):
    dag = bag.dags["mediquo_approval"]
    approve = dag.get_task("approve")
    assert (approve.defaults, getattr(approve, "response_timeout", None)) == (None, None)
    assert dag.dagrun_timeout.total_seconds() < 24 * 3600


@pytest.mark.parametrize("name", NAMES)
def test_no_two_runs_of_one_write_at_once(bag, name):
    assert bag.dags[name].max_active_runs == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_can_quote_it(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    part = name.removeprefix("mediquo_").split("_")[0]
    assert text.count(f"# [START {part}]\n") == text.count(f"# [END {part}]\n") == 1


def test_the_members_are_nobody():
    with open(EXAMPLES / "data" / "members.csv", newline="", encoding="utf-8") as file:
        members = list(csv.DictReader(file))
    reserved = ("", "+447700900", "+4917139200", "+3363998", "07700900")
    for member in members:
        assert member["email"].endswith(("@example.com", "not-an-address")) or not member["email"]
        assert member["phone"].replace(" ", "").startswith(reserved[1:]) or not member["phone"]


def test_the_members_of_the_export_are_nobody():
    text = (EXAMPLES / "data" / "socios.csv").read_bytes().decode("cp1252")
    (begin,) = quoted("messy-files.md", "text")
    assert text.splitlines()[:9] == begin.splitlines(), "as the docs show it"
    for member in csv.DictReader(text.splitlines(keepends=True), delimiter=";"):
        assert member["correo"].partition("@")[2].startswith("example")
        # Spain reserves no numbers: all have the same one, which counts up to six.
        number = re.sub("[ -]", "", member["telefono"])
        assert number in ("", "60012345") or number.endswith(("600123456", "+33639982121"))


def test_the_nightly_run(bag, start_box, run_dag, tmp_path):
    box = start_box(lag=1.5)
    dag = bag.dags["mediquo_nightly"]
    dag.get_task("wait_until_visible").poke_interval = 0.2
    done = run_dag(dag, rejects=str(tmp_path))
    assert {name: state for name, (state, _) in done.items()} == {
        "upsert": "success",
        "wait_until_visible": "success",
    }
    ledger = done["upsert"][1]
    counts = {name: ledger[name] for name in ("read", "upserted", "rejected", "unsettled")}
    assert counts == {"read": 300, "upserted": 292, "rejected": 8, "unsettled": 0}
    assert (ledger["invalid"], ledger["duplicate"]) == (7, 1)
    assert len(ledger["sample"]) == 20
    assert len(box.patients) == 292
    assert box.counters.requests["upsert"].total() == 3
    with open(ledger["rejects_path"], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert {line["row"]: line["problems"] for line in lines} == RULES_OF_ROWS
    assert ledger["rejects_path"].startswith(f"{tmp_path}/mediquo_nightly/manual__")


def test_the_run_over_files(bag, start_box, run_dag, tmp_path):
    box = start_box(lag=1)
    header = "member_id;first_name;product\n"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(f"{header}m-1;Ada;basic\nm-2;Bo\n")
    (tmp_path / "in" / "b.csv.gz").write_bytes(gzip.compress(f"{header}m-3;Cy;".encode()))
    dag = bag.dags["mediquo_files"]
    dag.get_task("wait_until_visible").poke_interval = 0.2
    done = run_dag(dag, path=str(tmp_path / "in"), rejects=str(tmp_path))
    assert {state for state, _ in done.values()} == {"success"}
    assert set(box.patients) == {"m-1", "m-3"}
    with open(done["upsert"][1]["rejects_path"], encoding="utf-8") as file:
        (line,) = map(json.loads, file)
    assert (line["file"], line["line"]) == (str(tmp_path / "in" / "a.csv"), 3)


def quoted(name, language):
    """The blocks of code in a page of the docs."""
    page = (EXAMPLES.parent / "docs" / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_run_over_an_export_of_another_system(bag, start_box, run_dag, tmp_path):
    box = start_box(lag=1)
    dag = bag.dags["mediquo_messy_file"]
    dag.get_task("wait_until_visible").poke_interval = 0.2
    done = run_dag(dag, rejects=str(tmp_path))
    assert {state for state, _ in done.values()} == {"success"}
    sent = {name: value for name, value in box.patients["S-001"].items() if value}
    assert {name: value for name, value in sent.items() if not name.endswith("_at")} == {
        "code": "S-001",
        "first_name": "Íñigo",
        "last_name": "Muñoz Peña",
        "gender": "male",
        "birth_date": "1980-12-31",
        "email": "inigo.munoz.1@example.com",
        "phone": "+34600123456",
        "plan": "premium",
        "locale": "es",
    }
    without = {code for code, patient in box.patients.items() if not patient.get("plan")}
    assert without == {"S-004"}, "who has left, and nobody who will"
    assert box.patients["S-007"]["last_name"] == "D\N{RIGHT SINGLE QUOTATION MARK}Alòs"
    assert box.patients["S-010"]["locale"] == "pt"
    assert box.patients["S-012"]["locale"] == "es", "mediQuo has no Catalan"
    assert box.patients["S-014"]["gender"] == "male", "spaces around a cell mean nothing"
    assert box.patients["S-014"]["birth_date"] == "1993-12-08"
    assert {patient["phone"] for code, patient in box.patients.items() if code != "S-005"} == {
        "+34600123456",
        None,
    }

    ledger, (counts, report) = done["upsert"][1], quoted("messy-files.md", "json")
    numbers = {name: count for name, count in ledger.items() if type(count) is int and count}
    assert json.loads(counts) == numbers
    with open(ledger["rejects_path"], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert {line.pop("file") for line in lines} == {str(EXAMPLES / "data" / "socios.csv")}
    assert lines == [json.loads(line) for line in report.splitlines()]


def fill(database, count):
    """Members with every third number missing, so that the key has gaps."""
    database.run(
        "CREATE TABLE members AS SELECT n AS id, 'm-' || n AS member_id, 'Ada' AS first_name, "
        "NULL AS last_name, 'female' AS gender, DATE '1980-12-10' AS birth_date, NULL AS tax_id, "
        "'m' || n || '@example.com' AS email, NULL AS phone, 'basic' AS product, 'es' AS locale "
        f"FROM generate_series(1, {count * 3 // 2}) AS n WHERE n % 3 > 0"
    )


@pytest.fixture
def put():
    """Write a patient past this package, as somebody else may."""

    def put(box, patient):
        body = json.dumps({"patients": [patient]}).encode()
        headers = {**box.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{box.url}/patients", body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    return put


@pytest.fixture
def warehouse(postgres_database, monkeypatch):
    """A database of the members and of the state."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres_database.json())
    monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_STATE", postgres_database.json())
    return postgres_database


@pytest.fixture
def night(bag, run_dag, warehouse, tmp_path):
    """Run the example that keeps a table in sync once; return the states and the ledger."""
    dag = bag.dags["mediquo_warehouse"]
    dag.get_task("wait_until_visible").poke_interval = 0.2

    def run(**conf):
        done = run_dag(dag, rejects=str(tmp_path), **conf)
        return {name: state for name, (state, _) in done.items()}, done["upsert"][1]

    return run


IN_STEP = {"upsert": "success", "wait_until_visible": "success"}


def counts(ledger):
    """The counts of a ledger that are not 0, without what it cost."""
    costs = ("requests", "retries", "seconds", "throttled_seconds")
    return {
        name: count
        for name, count in ledger.items()
        if isinstance(count, int) and count and name not in costs
    }


def unsubscribed(ledger):
    """Code -> reason, of the list of the unsubscribed."""
    with open(ledger["unsubscribed_path"], encoding="utf-8") as file:
        return {line["code"]: line["reason"] for line in map(json.loads, file)}


def test_three_nights_of_a_table(start_box, night, postgres_database, eventually):
    box = start_box(lag=1)
    fill(postgres_database, 2500)
    states, first = night()
    assert states == IN_STEP
    assert counts(first) == {"read": 2500, "upserted": 2500, "new": 2500}
    assert len(box.patients) == 2500
    assert box.patients["m-1"]["birth_date"] == "1980-12-10"
    assert first["sync"] == {"state_conn_id": "mediquo_state", "name": "members", "run": 1}

    postgres_database.run("UPDATE members SET first_name = 'Augusta' WHERE id <= 2")
    states, second = night()
    assert states == IN_STEP
    assert counts(second) == {"read": 2500, "upserted": 2, "changed": 2, "unchanged": 2498}
    assert second["requests"] == 1
    # The sensor does not wait for them: mediQuo's clock cannot tell two writes within two seconds apart.
    names = ["Augusta", "Augusta", "Ada"]
    eventually(
        lambda: [box.patients[code]["first_name"] for code in ("m-1", "m-2", "m-4")] == names
    )

    # And not one of those two.
    postgres_database.run("DELETE FROM members WHERE id = 4")
    states, third = night()
    assert states == IN_STEP
    left = ("missing", "missing_unsubscribed", "missing_had_plan")
    lost = dict.fromkeys((*left, "would_unsubscribe", "unsubscribed"), 1)
    assert counts(third) == {"read": 2499, "unchanged": 2499, **lost}
    assert unsubscribed(third) == {"m-4": "left"}
    assert {code for code, patient in box.patients.items() if not patient["plan"]} == {"m-4"}
    assert box.patients["m-4"]["email"] == "m4@example.com", "it keeps all else"
    assert postgres_database.run("SELECT count(*) FROM mediquo_member") == [(2499,)]


def test_a_night_on_which_too_many_are_gone_and_the_run_that_allows_it(
    start_box, night, postgres_database
):
    box = start_box()
    fill(postgres_database, 200)
    night()
    postgres_database.run("DELETE FROM members WHERE id <= 5")  # four of them, and 1% is two
    states, _ = night()
    assert states == {"upsert": "failed", "wait_until_visible": "upstream_failed"}
    assert all(patient["plan"] for patient in box.patients.values())
    states, ledger = night(max_unsubscribed=4)
    assert states == IN_STEP
    assert ledger["missing_unsubscribed"] == 4
    assert sum(not patient["plan"] for patient in box.patients.values()) == 4


def test_the_audit_finds_a_member_that_was_changed_and_the_next_night_corrects_it(
    bag, start_box, run_dag, night, postgres_database, put
):
    box = start_box()
    fill(postgres_database, 200)
    night()
    done = run_dag(bag.dags["mediquo_audit"])
    assert done["audit"][0] == "success"
    assert (done["audit"][1]["known"], done["audit"][1]["checked"]) == (200, 200)

    put(box, {"code": "m-1", "first_name": "Augusta", "plan": "basic"})
    done = run_dag(bag.dags["mediquo_audit"])
    assert done["audit"][0] == "failed"
    _, ledger = night()
    assert (ledger["resent"], ledger["unchanged"]) == (1, 199)
    assert box.patients["m-1"]["first_name"] == "Ada"


@pytest.fixture
def approval(bag, tmp_path):
    """The example that asks before many lose their plan."""
    dag = bag.dags["mediquo_approval"]
    for name in ("plan", "apply"):
        dag.get_task(name).rejects_path = str(tmp_path)
    dag.get_task("wait_until_visible").poke_interval = 0.2
    return dag


@pytest.fixture
def run_part(approval, run_task, warehouse):
    """Run one of its tasks: `run_part("apply", plan=ledger)`."""

    def run(task_id, **xcoms):
        task = approval.get_task(task_id).prepare_for_execution()  # rendered in place
        return run_task(task, xcoms={(name, -1): value for name, value in xcoms.items()})

    return run


@pytest.fixture
def planned(run_part):
    """Run its dry run, and return the ledger."""

    def run():
        done = run_part("plan")
        assert (done.state, done.error) == ("success", None)
        return done.result

    return run


def test_where_few_lose_their_plan_nobody_is_asked(approval, start_box, run_dag, warehouse):
    box = start_box()
    fill(warehouse, 200)
    done = run_dag(approval)
    assert {name: state for name, (state, _) in done.items()} == {
        "plan": "success",
        "compare_with_guard": "success",
        "approve": "skipped",
        "apply": "success",
        "wait_until_visible": "success",
    }
    assert len(box.patients) == 200
    warehouse.run("DELETE FROM members WHERE id <= 2")  # two of them: one in a hundred
    done = run_dag(approval)
    plan, applied = done["plan"][1], done["apply"][1]
    assert done["approve"][0] == "skipped"
    assert (plan["is_dry_run"], plan["would_unsubscribe"], plan["unsubscribed"]) == (True, 2, 2)
    assert (applied["would_unsubscribe"], applied["unsubscribed"]) == (2, 2)
    assert plan["unsubscribed_path"] is None, "one list of those who really lost it"
    assert [*unsubscribed(applied).values()] == ["left", "left"]
    assert sum(not patient["plan"] for patient in box.patients.values()) == 2


def test_a_night_of_many_rejects_is_planned_and_sent_before_it_fails(
    approval, start_box, run_dag, warehouse
):
    box = start_box()
    fill(warehouse, 200)
    warehouse.run("UPDATE members SET email = 'nobody' WHERE id <= 20")
    done = run_dag(approval)
    assert (done["plan"][0], done["apply"][0]) == ("success", "failed")
    assert len(box.patients) == done["plan"][1]["upserted"] == 186


def test_beyond_the_guard_somebody_is_asked_in_counts_alone(
    approval, box, run_part, warehouse, planned
):
    fill(warehouse, 200)
    run_part("apply", plan=planned())
    warehouse.run("UPDATE members SET product = NULL, first_name = 'Zenobia' WHERE id <= 2")
    warehouse.run("DELETE FROM members WHERE id IN (4, 5, 7)")
    warehouse.run("UPDATE members SET email = 'zenobia' WHERE id = 8")
    plan = planned()
    assert (plan["would_unsubscribe"], plan["unsubscribed"]) == (5, 0)
    compare = approval.get_task("compare_with_guard")
    assert compare.python_callable(plan) == "approve"

    asked = run_part("approve", plan=plan)
    assert asked.state in ("awaiting_input", "deferred")
    (body,) = [body for _, path, body in asked.sent if path.startswith("hitlDetails/")]
    question = json.loads(body)
    assert question["subject"] == "mediQuo: 5 plans would be lost"
    for line in (
        "**5 members",
        "- withheld: 2",
        "- missing: 3",
        "- rejected: 1",
        "0.01",
        "these 5",
    ):
        assert line in question["body"]
    assert question["defaults"] is None
    assert not re.search(r"zenobia|m-\d|@|basic", asked.everything, re.IGNORECASE)
    assert all(patient["plan"] for patient in box.patients.values())


APPROVED = {"chosen_options": ["Approve"], "params_input": {}}


@pytest.mark.parametrize(
    ("approved", "more", "unsubscribed"),
    [(APPROVED, 0, 3), (APPROVED, 1, 0), (APPROVED, -1, 2), (None, 0, 0)],
    ids=["as it was", "it has grown", "it has shrunk", "nobody has approved"],
)
def test_no_more_lose_their_plan_than_were_approved(
    box, run_part, warehouse, planned, approved, more, unsubscribed
):
    fill(warehouse, 200)
    run_part("apply", plan=planned())
    warehouse.run("UPDATE members SET product = NULL WHERE id <= 4")
    plan = planned()
    if more > 0:
        warehouse.run("UPDATE members SET product = NULL WHERE id = 5")
    if more < 0:
        warehouse.run("UPDATE members SET product = 'basic' WHERE id = 4")
    applied = run_part("apply", plan=plan, approve=approved)
    is_allowed = unsubscribed > 0
    assert applied.state == ("success" if is_allowed else "failed")
    assert sum(not patient["plan"] for patient in box.patients.values()) == unsubscribed
    assert applied.ledger["would_unsubscribe"] == 3 + more
    assert applied.ledger["withheld"] == (0 if is_allowed else 3 + more)


def test_an_approval_of_an_earlier_run_is_refused(box, run_part, warehouse, planned):
    fill(warehouse, 200)
    run_part("apply", plan=planned())
    warehouse.run("UPDATE mediquo_sync SET as_of = as_of + 1")
    warehouse.run("DELETE FROM members WHERE id <= 50")
    again = run_part("apply", plan={"would_unsubscribe": 99}, approve=APPROVED)
    assert again.state == "failed"
    assert "Stopped: state does not fit" in str(again.error)
    assert all(patient["plan"] for patient in box.patients.values())


def test_three_thousand_without_a_miss_prove_what_the_example_says(bag):
    (audit,) = bag.dags["mediquo_audit"].tasks
    assert round(upper_bound(audit.max_wrong, audit.sample_size), 4) == 0.001


def test_the_run_over_shards(bag, start_box, run_dag, postgres_database, monkeypatch):
    box = start_box(lag=1)
    connection = json.dumps(box.connection | {"extra": {"requests_per_minute": 600}})
    monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_QUARTER", connection)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres_database.json())
    fill(postgres_database, 250)
    done = run_dag(bag.dags["mediquo_sharded"], size=100)
    assert {name: state for name, (state, _) in done.items()} == dict.fromkeys(
        ["shards", "upsert-0", "upsert-1", "upsert-2", "wait_until_visible"], "success"
    )
    assert [done[f"upsert-{index}"][1]["upserted"] for index in range(3)] == [100, 100, 50]
    assert box.accepted == dict.fromkeys(box.patients, 1)
    assert len(box.patients) == 250


def test_no_more_shards_run_at_once_than_there_are_shares_of_the_rate(bag):
    upsert = bag.dags["mediquo_sharded"].get_task("upsert")
    assert upsert.pool == "mediquo"
    assert upsert.partial_kwargs["mediquo_conn_id"] == "mediquo_quarter"


def test_the_classic_run(bag, box, run_dag):
    done = run_dag(bag.dags["mediquo_classic"])
    assert {state for state, _ in done.values()} == {"success"}
    assert done["upsert"][1]["without_plan"] == 1
    read = done["read"][1]
    assert (read["code"], read["plan"]) == ("test-account-1", "premium")
    assert set(read) == {"code", "plan", "updated_at"}
    assert box.patients["test-account-2"]["meta"] == {"team": "support"}


def test_the_run_for_support(bag, box, run_dag, run_task):
    with DAG("before", schedule=None):
        patients = [{"code": "M/7", "first_name": "Ada"}]
        run_task(MediquoUpsertPatientsOperator(task_id="upsert", patients=patients))
    done = run_dag(bag.dags["mediquo_read_patient"], code="M/7")
    assert {state for state, _ in done.values()} == {"success"}
    assert set(done["read"][1]) == {"code", "updated_at"}
    assert done["authenticate"][1] == {"code": "M/7", "token_type": "Bearer"}


def test_a_run_of_mapped_upserts_and_one_that_waits_for_them_all(start_box, run_dag):
    box = start_box(lag=1)

    @task
    def chunks():
        return [["a", "b"], ["c"]]

    @task.mediquo_upsert
    def upsert(codes):
        for code in codes:
            yield {"code": code, "first_name": "{{ ds }}", "plan": "premium"}

    with DAG("mapped", schedule=None) as dag:
        MediquoPatientSensor(
            task_id="wait",
            written=upsert.expand(codes=chunks()),
            deferrable=True,
            poke_interval=0.2,
            timeout=30,
        )
    done = run_dag(dag)
    assert {name: state for name, (state, _) in done.items()} == {
        "chunks": "success",
        "upsert-0": "success",
        "upsert-1": "success",
        "wait": "success",
    }
    assert {code: patient["first_name"] for code, patient in box.patients.items()} == dict.fromkeys(
        "abc", "{{ ds }}"
    )


def test_a_row_that_was_cut_off_is_rejected_by_the_nightly_run(bag, box, run_dag, tmp_path):
    """Read as blanks, it would unsubscribe a patient."""
    box.settings.lag = 0
    rows = "member_id,first_name,product\nm-1,Ada,basic\nm-2,Al"
    (tmp_path / "members.csv").write_text(rows, encoding="utf-8-sig")
    done = run_dag(
        bag.dags["mediquo_nightly"], members=str(tmp_path / "members.csv"), rejects=str(tmp_path)
    )
    assert set(box.patients) == {"m-1"}
    assert done["upsert"][1]["invalid"] == 1


def test_an_argument_of_a_mapped_task_group_is_that_of_its_index(box, run_dag):
    @task.mediquo_upsert
    def upsert(code, patients):
        return [{"code": code, "first_name": "Ada", "plan": "premium"}, *patients]

    @task_group
    def group(code):
        listed = {"first_name": "Ada", "last_name": code, "plan": "premium"}
        upsert(code, [listed | {"code": f"of-the-list-{number}"} for number in (1, 2)])

    with DAG("groups", schedule=None) as dag:
        group.expand(code=["m-1", "m-2"])
    done = run_dag(dag)
    assert {state for state, _ in done.values()} == {"success"}
    assert set(box.patients) == {"m-1", "m-2", "of-the-list-1", "of-the-list-2"}
    assert box.patients["of-the-list-1"]["last_name"] in ("m-1", "m-2")


def test_an_argument_of_a_mapped_task_group_may_be_the_patients(box, run_dag, people):
    @task_group
    def group(patients):
        MediquoUpsertPatientsOperator(task_id="upsert", patients=patients)

    with DAG("groups_of_patients", schedule=None) as dag:
        group.expand(patients=[people(2), people(1, start=3)])
    done = run_dag(dag)
    assert {name: state for name, (state, _) in done.items()} == {
        "group.upsert-0": "success",
        "group.upsert-1": "success",
    }
    assert set(box.patients) == {"m-1", "m-2", "m-3"}
