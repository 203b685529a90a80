"""Statements that read and write members, each inside a transaction of `Store`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from sqlalchemy import ARRAY, String, any_, bindparam, delete, literal, select, update
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.sync.inserts import insert_members
from airflow_provider_mediquo.api.sync.tables import MEMBER, SYNC, is_of

_LIST = 500  # codes in one statement
# A member in doubt is sent again anyway, and belongs to the sync that sends it.
_CERTAIN = MEMBER.c.sync_id.is_not(None), MEMBER.c.in_doubt_by.is_(None)


class Sent(NamedTuple):
    """A member that mediQuo accepted, as the state keeps it."""

    code: str
    fingerprint: int
    source: int | None
    proof: str
    has_plan: bool
    sent_at: int

    @classmethod
    def of(cls, record: ValidRecord, proof: str) -> Self:
        """Return it for a record that mediQuo has just accepted."""
        change = record.change
        assert change
        known = change.fingerprint, change.source, proof
        return cls(record.code, *known, record.has_plan, int(time.time()))


class Doubt(NamedTuple):
    """A member that is about to be sent.

    :param may_have_plan: whether it has a plan before or after.
    """

    code: str
    is_known: bool
    may_have_plan: bool


def doubt(connection: Connection, sync_id: int, members: Iterable[Doubt]) -> set[str]:
    """Note that members are about to be sent: until there is an answer, nothing is known of them.

    Return the codes of which a request of another sync has no answer: mediQuo may apply it later.
    """
    members = list(members)
    found = _found(connection, [member.code for member in members])
    in_doubt = {"in_doubt_by": sync_id, "in_doubt_since": int(time.time())}
    known = [member for member in members if member.code in found]
    with_plan = [member.code for member in known if member.may_have_plan]
    without = [member.code for member in known if not member.may_have_plan]
    _update(connection, with_plan, has_plan=1, **in_doubt)
    _update(connection, without, **in_doubt)
    rows = [
        {"code": member.code, "has_plan": int(member.may_have_plan), **in_doubt}
        for member in members
        if member.code not in found
    ]
    if rows:
        insert_members(connection, rows)
    return {code for code, (doubted_by, _) in found.items() if doubted_by not in (None, sync_id)}


def doubt_own(connection: Connection, sync_id: int, codes: Sequence[str]) -> set[str]:
    """Note that missing members are about to be sent; return those that still belong to the sync."""
    own = {
        code
        for code, (doubted_by, sent_by) in _found(connection, codes).items()
        if (sent_by if doubted_by is None else doubted_by) == sync_id
    }
    _update(connection, [*own], in_doubt_by=sync_id, in_doubt_since=int(time.time()))
    return own


def acknowledge(
    connection: Connection,
    sync_id: int,
    run: int,
    members: Iterable[Sent],
    contested: Collection[str] = (),
) -> None:
    """Note that mediQuo has these members.

    One that another sync has sent at the same time stays in doubt: mediQuo may have either.

    :param contested: what `doubt` returned.
    """
    members = list(members)
    codes = [member.code for member in members]
    doubted = _delete_doubts(connection, codes)
    others = {code for code, doubted_by in doubted.items() if doubted_by != sync_id}
    others.update(code for code in codes if code in contested)
    rows: list[dict[str, Any]] = []
    for member in members:
        is_contested = member.code in others
        row = member._asdict() | {"sync_id": sync_id, "run": run}
        row["has_plan"] = int(member.has_plan or is_contested)
        rows.append(row | {"in_doubt_by": sync_id if is_contested else None})
    insert_members(connection, rows)


def restore(connection: Connection, sync_id: int, code: str, *, has_plan: bool) -> None:
    """Note that mediQuo refused a member, so it has what it had before: nothing, if nothing was sent."""
    is_own = MEMBER.c.code == code, MEMBER.c.in_doubt_by == sync_id
    connection.execute(delete(MEMBER).where(*is_own, MEMBER.c.sync_id.is_(None)))
    # What another sync has sent since then may have a plan.
    is_known = *is_own, MEMBER.c.sync_id == sync_id
    connection.execute(update(MEMBER).where(*is_known).values(has_plan=int(has_plan)))
    certain = {"in_doubt_by": None, "in_doubt_since": None}
    connection.execute(update(MEMBER).where(*is_own).values(**certain))


def forget(connection: Connection, sync_id: int, codes: Sequence[str]) -> None:
    """Delete members of a sync."""
    _delete(connection, codes, is_of(sync_id))


def refresh(connection: Connection, sources: Sequence[tuple[str, int, int]]) -> None:
    """Note how unchanged members look in the source now: code, fingerprint, fingerprint as it came.

    Those of which another sync has sent something else meanwhile are left as they are.
    """
    is_same = MEMBER.c.code == bindparam("of_code"), MEMBER.c.fingerprint == bindparam("sent")
    statement = update(MEMBER).where(*is_same).values(source=bindparam("as_it_came"))
    names = ("of_code", "sent", "as_it_came")
    connection.execute(statement, [dict(zip(names, each, strict=True)) for each in sources])


def doubt_again(connection: Connection, codes: Sequence[str]) -> None:
    """Note that members are not in mediQuo as they were sent: the next run sends them again."""
    for part in _parts(codes):
        statement = update(MEMBER).where(_is_among(connection, part), *_CERTAIN)
        connection.execute(statement.values(in_doubt_by=MEMBER.c.sync_id))


def proofs_of(connection: Connection, codes: Sequence[str]) -> dict[str, str]:
    """Return code -> proof of what was sent."""
    proofs: dict[str, str] = {}
    for part in _parts(codes):
        statement = select(MEMBER.c.code, MEMBER.c.proof).where(_is_among(connection, part))
        proofs.update((code, proof) for code, proof in connection.execute(statement))
    return proofs


def doubt_run(connection: Connection, name: str, run: int) -> int:
    """Note that the members of a run are not visible; return how many there are."""
    sync_id = connection.execute(select(SYNC.c.id).where(SYNC.c.name == name)).scalar()
    is_of_run = MEMBER.c.sync_id == sync_id, MEMBER.c.run == run
    statement = update(MEMBER).where(*is_of_run, *_CERTAIN)
    return int(connection.execute(statement.values(in_doubt_by=sync_id)).rowcount)


def _update(connection: Connection, codes: Sequence[str], **values: Any) -> None:
    for part in _parts(codes):
        connection.execute(update(MEMBER).where(_is_among(connection, part)).values(**values))


def _found(
    connection: Connection, codes: Sequence[str]
) -> dict[str, tuple[int | None, int | None]]:
    """Return code -> the sync that has it in doubt, and that sent it last; locks the rows."""
    found: dict[str, tuple[int | None, int | None]] = {}
    columns = MEMBER.c.code, MEMBER.c.in_doubt_by, MEMBER.c.sync_id
    for part in _parts(codes):
        statement = select(*columns).where(_is_among(connection, part)).with_for_update()
        found.update(
            (code, (doubt, sent)) for code, doubt, sent in connection.execute(statement).all()
        )
    return found


def _delete_doubts(connection: Connection, codes: Sequence[str]) -> dict[str, int | None]:
    """Delete members; return code -> the sync that had it in doubt."""
    if connection.dialect.name != "postgresql":
        doubted = {code: by for code, (by, _) in _found(connection, codes).items()}
        _delete(connection, codes)
        return doubted
    # One round trip less, of those that requests wait for.
    statement = delete(MEMBER).returning(MEMBER.c.code, MEMBER.c.in_doubt_by)
    return {
        code: by
        for part in _parts(codes)
        for code, by in connection.execute(statement.where(_is_among(connection, part))).all()
    }


def _delete(connection: Connection, codes: Sequence[str], *where: Any) -> None:
    for part in _parts(codes):
        connection.execute(delete(MEMBER).where(_is_among(connection, part), *where))


def _is_among(connection: Connection, codes: Sequence[str]) -> Any:
    """Return the condition that a member has one of some codes.

    PostgreSQL gets them as one value: one by one they would take most of the CPU of a write.
    """
    if connection.dialect.name == "postgresql":
        return MEMBER.c.code == any_(literal([*codes], ARRAY(String)))
    return MEMBER.c.code.in_(codes)


def _parts(codes: Sequence[str]) -> Iterator[Sequence[str]]:
    return (codes[at : at + _LIST] for at in range(0, len(codes), _LIST))
