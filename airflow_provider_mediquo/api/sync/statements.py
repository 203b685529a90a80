"""What is written about members, each inside a transaction of `Store`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.sync.tables import MEMBER, SYNC

_LIST = 500  # codes in one statement


class Sent(NamedTuple):
    """A member that mediQuo accepted, as the state keeps it."""

    code: str
    fingerprint: int
    source: int | None
    proof: str
    has_plan: bool
    sent_at: int


class Doubt(NamedTuple):
    """A member that is about to be sent.

    :param may_have_plan: whether it has a plan before or after.
    """

    code: str
    is_known: bool
    may_have_plan: bool


def doubt(connection: Connection, sync_id: int, members: Iterable[Doubt]) -> None:
    """Note that members are about to be sent: until there is an answer, nothing is known of them."""
    members = list(members)
    known = [member for member in members if member.is_known]
    with_plan = [member.code for member in known if member.may_have_plan]
    without = [member.code for member in known if not member.may_have_plan]
    in_doubt = {"in_doubt_by": sync_id, "in_doubt_since": int(time.time())}
    _update(connection, with_plan, has_plan=1, **in_doubt)
    _update(connection, without, **in_doubt)
    if new := [member for member in members if not member.is_known]:
        _delete(
            connection, [member.code for member in new]
        )  # another sync may have sent it just now
        rows = [{"code": code, "has_plan": int(plan), **in_doubt} for code, _, plan in new]
        connection.execute(insert(MEMBER), rows)


def acknowledge(connection: Connection, sync_id: int, run: int, members: Iterable[Sent]) -> None:
    """Note that mediQuo has these members."""
    members = list(members)
    _delete(connection, [member.code for member in members])
    own = {"sync_id": sync_id, "run": run, "in_doubt_by": None}
    rows = [own | member._asdict() | {"has_plan": int(member.has_plan)} for member in members]
    connection.execute(insert(MEMBER), rows)


def restore(connection: Connection, code: str, *, has_plan: bool) -> None:
    """Note that mediQuo refused a member, so it has what it had before."""
    certain = {"in_doubt_by": None, "in_doubt_since": None}
    _update(connection, [code], has_plan=int(has_plan), **certain)


def forget(connection: Connection, codes: Sequence[str]) -> None:
    """Delete members."""
    _delete(connection, codes)


def refresh(connection: Connection, sources: Sequence[tuple[str, int]]) -> None:
    """Note how unchanged members look in the source now."""
    statement = (
        update(MEMBER)
        .where(MEMBER.c.code == bindparam("of_code"))
        .values(source=bindparam("new_source"))
    )
    connection.execute(
        statement, [{"of_code": code, "new_source": source} for code, source in sources]
    )


def doubt_again(connection: Connection, codes: Sequence[str]) -> None:
    """Note that members are not in mediQuo as they were sent: the next run sends them again."""
    for part in _parts(codes):
        statement = update(MEMBER).where(MEMBER.c.code.in_(part), MEMBER.c.sync_id.is_not(None))
        connection.execute(statement.values(in_doubt_by=MEMBER.c.sync_id))


def proofs_of(connection: Connection, codes: Sequence[str]) -> dict[str, str]:
    """Return code -> proof of what was sent."""
    proofs: dict[str, str] = {}
    for part in _parts(codes):
        statement = select(MEMBER.c.code, MEMBER.c.proof).where(MEMBER.c.code.in_(part))
        proofs.update((code, proof) for code, proof in connection.execute(statement))
    return proofs


def doubt_run(connection: Connection, name: str, run: int) -> int:
    """Note that the members of a run are not visible; return how many there are."""
    sync_id = connection.execute(select(SYNC.c.id).where(SYNC.c.name == name)).scalar()
    statement = update(MEMBER).where(MEMBER.c.sync_id == sync_id, MEMBER.c.run == run)
    return int(connection.execute(statement.values(in_doubt_by=sync_id)).rowcount)


def _update(connection: Connection, codes: Sequence[str], **values: Any) -> None:
    for part in _parts(codes):
        connection.execute(update(MEMBER).where(MEMBER.c.code.in_(part)).values(**values))


def _delete(connection: Connection, codes: Sequence[str]) -> None:
    for part in _parts(codes):
        connection.execute(delete(MEMBER).where(MEMBER.c.code.in_(part)))


def _parts(codes: Sequence[str]) -> Iterator[Sequence[str]]:
    return (codes[at : at + _LIST] for at in range(0, len(codes), _LIST))
