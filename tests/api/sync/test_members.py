import itertools
import random
import subprocess
import sys

from sqlalchemy import insert

from airflow_provider_mediquo.api.sync.members import (
    ACKNOWLEDGED,
    DOUBT,
    OWN,
    PLAN,
    Members,
    read_members,
)
from airflow_provider_mediquo.api.sync.tables import MEMBER
from tests.support.processes import unmeasured
from tests.support.states import every_database


def test_a_member_is_found_with_all_that_was_added():
    members = Members(2)
    members.add([("a", -(2**63), 2**63 - 1, 1_800_000_000, OWN | PLAN), ("b", 0, 0, 0, DOUBT)])
    assert [members.find(code) for code in "abc"] == [0, 1, -1]
    assert [*members.fingerprints] == [-(2**63), 0]
    assert [*members.sources] == [2**63 - 1, 0]
    assert [*members.sent_at] == [1_800_000_000, 0]
    assert members.flags == bytes([OWN | PLAN, DOUBT])
    assert len(members) == 2


def test_it_grows_beyond_the_expected_size():
    members = Members(0)
    codes = [f"m-{number}" for number in range(20_000)]
    for at in range(0, len(codes), 1000):
        members.add([(code, int(code[2:]), 0, 0, 0) for code in codes[at : at + 1000]])
    random.Random(1).shuffle(codes)
    for code in codes:
        assert members.fingerprints[members.find(code)] == int(code[2:])
    assert members.find("m-20000") == -1


def test_slots_that_many_want_are_shared():
    """Codes whose hashes differ in the highest bits only."""

    class Code(str):
        def __hash__(self):
            return int(str(self)) << 40

    members = Members(500)
    members.add([(Code(number), number, 0, 0, 0) for number in range(500)])
    assert all(members.find(Code(number)) == number for number in range(500))
    assert members.find(Code(500)) == -1


def test_counts_are_of_those_that_have_all_flags_and_none_of_the_others():
    members = Members(4)
    flags = [OWN, OWN | PLAN, PLAN, OWN | PLAN | DOUBT]
    members.add([(code, 0, 0, 0, each) for code, each in zip("abcd", flags, strict=True)])
    assert members.count(OWN) == 3
    assert members.count(OWN | PLAN) == 2
    assert members.count(OWN | PLAN, DOUBT) == 1
    assert members.count(0, ACKNOWLEDGED) == 4


@every_database
def test_what_is_known_of_a_member_is_read(every_state):
    """Each combination of what its row may hold."""
    store = every_state.store()
    store.create()
    combinations = itertools.product(
        [None, 1, 2], [None, 1, 2], [0, 1], [None, -(2**63), 2**63 - 1]
    )
    rows = [
        {
            "code": f"m-{number}",
            "sync_id": sent_by,
            "in_doubt_by": doubted_by,
            "has_plan": has_plan,
            "fingerprint": fingerprint,
            "source": fingerprint,
            "sent_at": fingerprint and 1_800_000_000,
        }
        for number, (sent_by, doubted_by, has_plan, fingerprint) in enumerate(combinations)
    ]
    store.write(lambda connection: connection.execute(insert(MEMBER), rows))
    members = read_members(store, 2, lambda: None)
    assert len(members) == len(rows)
    for row in rows:
        at = members.find(row["code"])
        assert members.fingerprints[at] == members.sources[at] == (row["fingerprint"] or 0)
        assert members.sent_at[at] == (row["sent_at"] or 0)
        flags = PLAN if row["has_plan"] else 0
        flags |= ACKNOWLEDGED if row["fingerprint"] is not None else 0
        flags |= DOUBT if row["in_doubt_by"] else 0
        flags |= OWN if (row["in_doubt_by"] or row["sync_id"]) == 2 else 0
        assert members.flags[at] == flags
    before_the_first_run = read_members(store, None, lambda: None)
    assert before_the_first_run.count(0, OWN) == len(rows)


MEASURE = """
import tracemalloc
from airflow_provider_mediquo.api.sync.members import Members

codes = [f"m-{number}" for number in range(80_000)]  # which costs more for each than 200,000
tracemalloc.start()
members = Members(len(codes))
for at in range(0, len(codes), 1000):
    members.add([(code, 1 << 60, 1 << 61, 1_800_000_000, 0) for code in codes[at : at + 1000]])
print(tracemalloc.get_traced_memory()[0] / len(codes))
"""


def test_a_member_takes_few_bytes():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env=unmeasured(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert float(done.stdout) < 50
