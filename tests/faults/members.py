"""People who are made up, and what mediQuo should hold of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

CANARY = "canaryinamine"
"""Is in every text that is a patient's own, and must never be told."""

PHONES = ["+447700900123", "+447700900456"]

OWN = [CANARY, *(phone.removeprefix("+44") for phone in PHONES)]
"""What would show that something of a patient was told."""

REFUSED = f"{CANARY}-refused"
"""A tax_id that the sandbox refuses, though the schema does not."""

# Twenty, as many as an upload's sample holds; some are awkward in a path, or look like an error.
CODES = [*(f"m-{number}" for number in range(15)), "a/b", "%2F", "é 1", "...", "CERTIFICATE-1"]

_FIELDS: dict[str, list[Any]] = {
    "last_name": [None, f"{CANARY} Byron", f"{CANARY} Ó"],
    "gender": ["male", "female", None],
    "birth_date": ["1980-02-29", "1915-12-10", None],
    "tax_id": [f"{CANARY}-1", f"{CANARY}-2", None],
    "email": [f"{CANARY}@example.com", f"{CANARY}.2@example.com", None],
    "phone": [*PHONES, None],
    "locale": ["de", "pt"],
    "meta": [{"card": f"{CANARY} 1"}, {"card": f"{CANARY} 2", "more": [1, None]}, None],
}
_NAMES = [f"{CANARY} Ada", f"{CANARY} Grace", f"{CANARY} 東"]
_PLANS = [f"{CANARY} premium", f"{CANARY} basic"]

GOOD = st.fixed_dictionaries(
    {"first_name": st.sampled_from(_NAMES)},
    optional={name: st.sampled_from(values) for name, values in _FIELDS.items()}
    | {"plan": st.sampled_from([*_PLANS, *_PLANS, None])},
)
REFUSABLE = GOOD.map(lambda fields: fields | {"tax_id": REFUSED})
BROKEN = GOOD.flatmap(
    lambda fields: st.sampled_from(
        [{"gender": CANARY}, {"birth_date": CANARY}, {"shoe_size": CANARY}, {"first_name": " "}]
    ).map(lambda broken: fields | broken)
)


@dataclass(frozen=True)
class Given:
    """A record of the source.

    :param fields: all but its code.
    """

    code: str
    fields: Mapping[str, Any] = field(repr=False)
    is_valid: bool = True

    @property
    def record(self) -> dict[str, Any]:
        return {"code": self.code, **self.fields}

    @property
    def has_plan(self) -> bool:
        return self.fields.get("plan") is not None

    @property
    def is_refused(self) -> bool:
        return self.fields.get("tax_id") == REFUSED


@dataclass
class Source:
    """Members, each with a record, and some with a second one."""

    first: dict[str, Given] = field(default_factory=dict)
    second: dict[str, Given] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Given]:
        return iter([*self.first.values(), *self.second.values()])

    def good(self) -> dict[str, Given]:
        """By code the record that counts: the first that the schema does not refuse."""
        found: dict[str, Given] = {}
        for given in self:
            if given.is_valid:
                found.setdefault(given.code, given)
        return found

    def loses_a_plan(self) -> bool:
        """Whether a record that does not count has a plan, and the one that does has none."""
        good = self.good()
        return any(g.has_plan and g.code in good and not good[g.code].has_plan for g in self)


def as_shown(given: Given, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What mediQuo shows of a patient after this record, except the times.

    :param before: what it showed until then; what a record leaves out stays.
    """
    nobody = dict.fromkeys(_FIELDS) | {"plan": None, "locale": "es"}
    shown = nobody | {name: (before or nobody)[name] for name in nobody} | dict(given.record)
    return shown | {"plan": given.fields.get("plan")}
