import random
import subprocess
import sys

from airflow_provider_mediquo.api.sync.members import ACKNOWLEDGED, DOUBT, OWN, PLAN, Members
from tests.support.processes import unmeasured


def test_a_member_is_found_with_all_that_was_added():
    members = Members(2)
    rows = [("a", -(2**63), 2**63 - 1, 1_800_000_000), ("b", None, None, None)]
    members.add(rows, [OWN | PLAN, DOUBT])
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
        rows = [(code, int(code[2:]), None, None) for code in codes[at : at + 1000]]
        members.add(rows, [0] * len(rows))
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
    members.add([(Code(number), number, None, None) for number in range(500)], bytes(500))
    assert all(members.find(Code(number)) == number for number in range(500))
    assert members.find(Code(500)) == -1


def test_counts_are_of_those_that_have_all_flags_and_none_of_the_others():
    members = Members(4)
    flags = [OWN, OWN | PLAN, PLAN, OWN | PLAN | DOUBT]
    members.add([(code, 0, 0, 0) for code in "abcd"], flags)
    assert members.count(OWN) == 3
    assert members.count(OWN | PLAN) == 2
    assert members.count(OWN | PLAN, DOUBT) == 1
    assert members.count(0, ACKNOWLEDGED) == 4


MEASURE = """
import tracemalloc
from airflow_provider_mediquo.api.sync.members import Members

codes = [f"m-{number}" for number in range(200_000)]
tracemalloc.start()
members = Members(len(codes))
for at in range(0, len(codes), 1000):
    members.add([(code, 1 << 60, 1 << 61, 1_800_000_000) for code in codes[at : at + 1000]], bytes(1000))
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
