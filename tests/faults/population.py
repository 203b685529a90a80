"""Members of a sync: what their source says of them, in how many ways, and what mediQuo should hold."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from hypothesis import strategies as st

from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints
from tests.faults import members
from tests.faults.members import CANARY, GOOD, REFUSED

Fields = dict[str, Any]

CODES = [code for code in members.CODES if "/" not in code]
"""Without those that mediQuo may never find: who left with one is unsettled for ever."""

_BLANK: Fields = dict.fromkeys(
    ["last_name", "gender", "birth_date", "tax_id", "email", "plan", "phone", "meta"]
) | {"locale": "es"}

# All fields, so that mediQuo has nothing of an earlier record where it has this one.
FIELDS = st.builds(
    lambda fields, plan, more: _BLANK | fields | {"plan": plan} | more,
    GOOD,
    st.sampled_from([f"{CANARY} basic", f"{CANARY} premium", f"{CANARY} basic", None]),
    st.sampled_from([*[{}] * 11, {"tax_id": REFUSED}]),
)
SPELLINGS = st.sampled_from(["usual", "reversed", "padded", "date", "alias", "empty"])


@dataclass
class Population:
    """A source of which each member is in one record, unless it is said to come twice."""

    fields: dict[str, Fields] = field(default_factory=dict)
    earlier: defaultdict[str, list[Fields]] = field(default_factory=lambda: defaultdict(list))
    spellings: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    second: dict[str, Fields] = field(default_factory=dict)
    has_unreadable: bool = False

    def change(self, changed: dict[str, Fields]) -> None:
        for code, fields in changed.items():
            if code in self.fields:
                self.earlier[code].append(self.fields[code])
            self.fields[code] = dict(fields)

    def leave(self, codes: set[str]) -> None:
        for code in codes & self.fields.keys():
            self.earlier[code].append(self.fields.pop(code))

    def end_plans(self, codes: set[str]) -> None:
        self.change({code: self.fields[code] | {"plan": None} for code in codes & {*self.fields}})

    def go_back(self, codes: set[str]) -> None:
        """To what they were before the last change, which was none."""
        self.change({code: self.earlier[code][-1] for code in codes if self.earlier[code]})

    def correct(self) -> None:
        """Leave nothing that is invalid."""
        self.broken, self.second, self.has_unreadable = set(), {}, False

    def __iter__(self) -> Iterator[Fields]:
        for code, fields in self.fields.items():
            record = spelled({"code": code} | fields, self.spellings.get(code, "usual"))
            yield record | {"gender": CANARY} if code in self.broken else record
        if self.has_unreadable:
            yield {"code": " ", "first_name": CANARY}
        yield from ({"code": code} | fields for code, fields in self.second.items())

    def with_plan(self) -> set[str]:
        """Return the codes that may not lose a plan: one in a record, or a record that is invalid."""
        counts = self.second | {c: f for c, f in self.fields.items() if c not in self.broken}
        invalid = (self.broken & self.fields.keys()) - self.second.keys()
        return invalid | {code for code, fields in counts.items() if fields["plan"]}

    def sendable(self) -> dict[str, Fields]:
        """Return what mediQuo accepts: by code its fields."""
        return {
            code: fields
            for code, fields in self.fields.items()
            if code not in self.broken and fields["tax_id"] != REFUSED
        }


class Versions:
    """All that a source has said, by the fingerprints that the state keeps of it."""

    def __init__(self, fingerprints: Fingerprints) -> None:
        self._fingerprints = fingerprints
        self._sent: dict[tuple[str, int], Fields] = {}
        self._sources: dict[tuple[str, int], int] = {}

    def note(self, records: Iterator[Fields]) -> None:
        for record in records:
            patient, problems = check_patient(record)
            if not problems:
                code, key = patient["code"], self._fingerprints
                fingerprint = key.of_patient(patient, encode_patient(patient))
                self._sent[code, fingerprint] = _BLANK | patient
                if (source := key.of_source(record)) is not None:
                    self._sources[code, source] = fingerprint

    def sent(self, row: Any) -> Fields:
        """Return what was sent of a member, as mediQuo shows it."""
        fields = self._sent[row.code, row.fingerprint]
        assert row.source is None or self._sources[row.code, row.source] == row.fingerprint
        return fields


def spelled(record: Fields, how: str) -> Fields:
    """Return a record that means the same and looks otherwise."""
    if how == "reversed":
        return dict(reversed(record.items()))
    if how == "padded":
        return {n: f" {v}\t" if isinstance(v, str) else v for n, v in record.items()}
    if how == "empty":
        return {n: "" if v is None and n != "meta" else v for n, v in record.items()}
    born = record.get("birth_date")
    if how == "date" and born:
        return record | {"birth_date": date.fromisoformat(born)}
    if how == "alias":
        return {"birthdate" if n == "birth_date" else n: v for n, v in record.items()}
    return record
