"""Reads a sample of the members back from mediQuo and compares them with what was sent."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.patients.endpoints import get
from airflow_provider_mediquo.api.sync import statements
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.text import counted
from airflow_provider_mediquo.api.visibility.fingerprint import differences
from airflow_provider_mediquo.api.visibility.sample import RandomSample

log = logging.getLogger(__name__)

CONFIDENCE = 0.95
MAX_SAMPLE = 1_000_000
_SHOWN_CODES = 20
_IN_FLIGHT = 10  # mediQuo's limit is ten a second


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    :param known: members in the state that no request has in doubt.
    :param checked: how many of them were read back, chosen at random.
    :param differ: those in which a field is not as it was sent.
    :param not_found: those that mediQuo does not have.
    :param fields: field -> in how many members it differs.
    :param codes: the codes of the first 20 wrong ones.
    :param at_most: the upper bound of the share of all members that are wrong.
    :param confidence: how certain that bound is, on one side.
    """

    known: int
    checked: int
    differ: int
    not_found: int
    fields: dict[str, int] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    at_most: float = 1.0
    confidence: float = CONFIDENCE

    @property
    def wrong(self) -> int:
        """Members that differ or were not found."""
        return self.differ + self.not_found

    def as_dict(self) -> dict[str, Any]:
        """Return the report as the audit operator returns it."""
        return asdict(self)

    def __str__(self) -> str:
        which = ", ".join(f"{name} {count:,}" for name, count in self.fields.items())
        return (
            f"Wrong: {self.wrong:,} of {counted(self.checked, 'member')}.\nDiffer: {self.differ:,}"
            f"{f' ({which})' if which else ''}. Not found: {self.not_found:,}. With "
            f"{self.confidence:.0%} confidence at most {self.at_most:.2%} of all {self.known:,} are wrong."
        )


def audit(store: Store, client: MediquoClient, sample_size: int) -> AuditReport:
    """Check a random sample; what is wrong is in doubt then, so that the next run sends it again.

    Codes with `/` are only read if there are no others: many servers never find them.
    """
    known, chosen = choose(store, sample_size)
    if not known:
        log.warning(
            "The state has no member that can be checked. This is normal before the first sync; "
            "otherwise check `state_conn_id`."
        )
    proofs = store.read(lambda connection: statements.proofs_of(connection, chosen))
    wrong: dict[str, list[str]] = {}
    fields: Counter[str] = Counter()
    not_found = 0
    for code, differing in _check_all(client, proofs):
        if differing is None:
            not_found += 1
        elif differing:
            fields.update(differing)
        else:
            continue
        wrong[code] = differing or []
    if wrong:
        store.write(lambda connection: statements.doubt_again(connection, [*wrong]))
    return AuditReport(
        known=known,
        checked=len(proofs),
        differ=len(wrong) - not_found,
        not_found=not_found,
        fields=dict(fields.most_common()),
        codes=[*wrong][:_SHOWN_CODES],
        at_most=upper_bound(len(wrong), len(proofs)),
    )


def upper_bound(wrong: int, checked: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper bound of a share, one-sided: Clopper and Pearson's.

    The largest share with which so few wrong ones are not less likely than `1 - confidence`.
    """
    if wrong >= checked:
        return 1.0
    if not wrong:
        return float(1 - (1 - confidence) ** (1 / checked))
    low, high = wrong / checked, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(wrong, checked, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(wrong: int, checked: int, share: float) -> float:
    """Return the probability of so many or fewer: the binomial distribution."""
    if share >= 1.0:
        return 0.0
    total = 0.0
    for count in range(wrong + 1):
        ways = math.lgamma(checked + 1) - math.lgamma(count + 1) - math.lgamma(checked - count + 1)
        total += math.exp(ways + count * math.log(share) + (checked - count) * math.log1p(-share))
    return total


def choose(store: Store, sample_size: int) -> tuple[int, list[str]]:
    """Return how many members there are, and a random sample of their codes."""
    known, chosen = 0, RandomSample[str](sample_size)
    for code in _certain(store):
        known += 1
        chosen.consider(code, code)
    return known, chosen.kept


def _certain(store: Store) -> Iterator[str]:
    if store.check_version():
        for page in store.certain_codes():
            for (code,) in page:
                yield code


def _check_all(
    client: MediquoClient, proofs: Mapping[str, str]
) -> list[tuple[str, list[str] | None]]:
    """Return each code with the result of its check.

    What cuts it short ends the retries and pauses of the requests in progress; a time limit also aborts
    them.
    """
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="mediquo-audit") as threads:
        try:
            found = threads.map(lambda item: _check(client, *item), proofs.items())
            return [*zip(proofs, found, strict=True)]
        except BaseException as error:
            client.stop(abort=not isinstance(error, Exception))
            raise


def _check(client: MediquoClient, code: str, proof: str) -> list[str] | None:
    """Return the fields that differ, or None if mediQuo has no such patient."""
    patient = client.send(get(code)).value
    if patient is None:
        return None
    return differences(proof, patient, client.settings.secret_key, by_time=False)
