"""A person is deleted from the state, and it is said where else the code may be."""

import re
import threading
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.sync.forgetting import ELSEWHERE, forget
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from tests.support.states import every_database, every_server
from tests.support.threads import join, launch

PRIVACY = Path(__file__).parents[3] / "docs" / "privacy.md"
UUID_CODE = UUID("0a1b2c3d-0000-4000-8000-000000000000")


@every_database
def test_a_person_is_forgotten_for_all_syncs(box, every_state, sync, people):
    sync(box, every_state, people(3)).ok()
    sync(box, every_state, people(1), name="family").ok()
    hook = MediquoHook("there_is_none")
    every_state.run("UPDATE mediquo_member SET in_doubt_by = 1 WHERE code = 'm-1'")
    forgotten = hook.forget_patient("m-1", state_conn_id="state")
    assert forgotten.syncs == ("family", "members")
    assert set(every_state.members()) == {"m-2", "m-3"}
    assert '"m-1"' not in every_state.dump()  # without quotes a proof may hold it by chance
    assert "m-1" not in str(forgotten)
    assert str(forgotten).startswith("Deleted from the state (family, members). The code may also")
    again = hook.forget_patient("m-1", state_conn_id="state")
    assert again.syncs == ()
    assert str(again).startswith("Not in the state. The code may also be in:\n- your source: ")
    options = {"on_missing": "unsubscribe", "dry_run": True}
    assert sync(box, every_state, people(1, start=2), **options).ok().missing == 1  # m-3 alone
    assert sync(box, every_state, people(3)).ok().new == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (7, "7"),
        (Decimal("7.0"), "7"),
        (UUID_CODE, str(UUID_CODE)),
        (" 7\t", "7"),
        ("'; --", "'; --"),
    ],
)
def test_a_code_is_read_as_in_a_record(box, state, sync, given, code):
    sync(box, state, [{"code": given, "first_name": "Ada"}, {"code": "8", "first_name": "Bo"}]).ok()
    assert set(state.members()) == {code, "8"}
    assert forget(state.store(), given).syncs == ("members",)
    assert set(state.members()) == {"8"}


@pytest.mark.parametrize("given", [None, "", " ", True, 1.5, ["m-1"], 10**100])
def test_what_is_no_code_is_an_error(state, given):
    with pytest.raises(ValueError, match="`code` must be the code of a patient"):
        forget(state.store(), given)


def test_a_state_without_tables_knows_nobody(state):
    assert forget(state.store(), "m-1").syncs == ()
    assert state.tables() == set()


@every_database
def test_nobody_is_forgotten_while_a_sync_runs(box, every_state, sync, people):
    sync(box, every_state, people(2)).ok()
    Lease(every_state.store(), "another", held_by="dag.task of a run")
    before = every_state.members()
    with pytest.raises(
        StateError, match=r"The sync 'another' has been running since .*\n.* send this person again"
    ):
        forget(every_state.store(), "m-1")
    assert every_state.members() == before
    every_state.pretend_dead(name="another")  # killed
    assert forget(every_state.store(), "m-1").syncs == ("members",)


@every_server
def test_no_run_begins_while_a_person_is_forgotten(box, every_state, sync, people, eventually):
    """It would read the person and put them back."""
    sync(box, every_state, people(2)).ok()
    began = []

    def begin():
        began.append(Lease(every_state.store(), "members"))

    thread = threading.Thread(target=begin)
    with every_state.engine().begin() as connection:
        from airflow_provider_mediquo.api.sync.forgetting import _delete

        _delete(connection, "m-1")
        launch(thread)
        thread.join(0.5)
        assert began == []
    join(thread)
    assert len(began) == 1
    assert set(every_state.members()) == {"m-2"}


def test_it_names_each_place_of_the_docs_that_holds_codes():
    lines = re.findall(r"^\| (.+?) \| (.+?) \|", PRIVACY.read_text(encoding="utf-8"), re.MULTILINE)
    with_codes = {place for place, holds in lines if "codes" in holds}
    untested = {place for place, holds in lines if holds == "not tested"}
    assert with_codes - {"state"} <= {*ELSEWHERE}
    assert {*ELSEWHERE} <= with_codes | untested | {"your source", "backups"}
