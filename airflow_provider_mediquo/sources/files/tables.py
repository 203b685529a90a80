"""Table formats, whose log says which files count, and folders whose name holds a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.text import escaped
from airflow_provider_mediquo.sources.columns import ColumnMapping

_LOGS = {
    "_delta_log": "Delta",
    ".hoodie": "Hudi",
    "metadata/*.metadata.json": "Iceberg",
    "metadata/*.metadata.json.gz": "Iceberg",
}
_ACID = re.compile(r"(?:base|delta|delete_delta)_[0-9]{7}(?:_[0-9]{7})?(?:_[0-9]{4})?(?:_v[0-9]+)?")
"""A write of a transactional table of Hive, whose later folders replace earlier ones."""
_NULL = "__HIVE_DEFAULT_PARTITION__"
_VALUE = re.compile(r"([^=]+)=(.*)", re.DOTALL)

IsRead = Callable[[str], bool]
"""The name of a column -> whether its values become a patient's."""


def refuse_log(key: str) -> None:
    """Raise InvalidPatientsError if an entry of a folder is the log of a table."""
    for log, kind in _LOGS.items():
        folder, found, rest = f"/{key.rstrip('/')}".partition(f"/{log.partition('*')[0]}")
        if found and fnmatchcase(f"{found[1:]}{rest}", log):
            raise _table(folder[1:], kind)
    _refuse_acid(key)


def _refuse_acid(key: str) -> None:
    parts = key.split("/")
    if at := next((at for at, part in enumerate(parts) if at and _ACID.fullmatch(part)), 0):
        raise _table("/".join(parts[:at]), "Hive ACID")


def refuse_tables(storage: Any, keys: Sequence[str]) -> None:
    """Raise InvalidPatientsError if any of the files are in a table that has a log.

    :param storage: an fsspec file system.
    """
    if protocols(storage) & {"http", "https"}:  # which cannot list folders
        return
    for key in keys:
        _refuse_acid(key)
    for folder in sorted({folder for key in keys for folder in _folders(key)}):
        for log, kind in _LOGS.items():
            if _has(storage, f"{folder}/{log}"):
                raise _table(folder, kind)


def protocols(storage: Any) -> set[str]:
    """Return how URLs of an fsspec file system begin."""
    found = storage.protocol
    return {*found} if isinstance(found, tuple | list) else {found}


def _table(folder: str, kind: str) -> InvalidPatientsError:
    name = escaped(without_values(f"{folder}/").rstrip("/"))
    return InvalidPatientsError(
        f"{name} is a table in {kind} format.\nIts files also hold rows that were deleted or "
        "changed. Read it with SQL, or export it into a folder of its own."
    )


def _folders(key: str) -> Iterator[str]:
    folder = key.rpartition("/")[0]
    while folder.strip("/"):
        yield folder
        folder = folder.rpartition("/")[0]


def _has(storage: Any, path: str) -> bool:
    with suppress(Exception):  # not allowed to look: then it is not this folder's log
        return bool(storage.glob(path) if "*" in path else storage.exists(path))
    return False


def folder_values(key: str) -> dict[str, str | None]:
    """Return the columns whose values are in the names of folders, such as `plan=gold`.

    :param key: what the storage calls the file, with its folders.
    """
    found = map(_VALUE.fullmatch, key.split("/")[:-1])
    pairs = ((_unescaped(each[1]), _unescaped(each[2])) for each in found if each)
    return {name: None if value == _NULL else value for name, value in pairs}


def without_values(key: str, is_read: IsRead = lambda name: True) -> str:
    """Return a key in which `*` stands for the values of columns in the names of folders.

    :param key: what the storage calls a file, or a folder with a slash at its end.
    :param is_read: whether a column is read; the others say nothing of a patient.
    """
    *folders, name = key.split("/")
    for at, folder in enumerate(folders):
        if (found := _VALUE.fullmatch(folder)) and is_read(_unescaped(found[1])):
            folders[at] = f"{found[1]}=*"
    return "/".join([*folders, name])


def _unescaped(text: str) -> str:
    return unquote(text, errors="surrogateescape")  # which is rejected: `%FF` is no text in UTF-8


class FolderColumns(ColumnMapping):
    """The columns of a file, and those in the names of its folders.

    :param mapping: checks both.
    """

    def __init__(self, mapping: ColumnMapping, values: Mapping[str, str | None]) -> None:
        super().__init__(mapping.columns, is_transformed=mapping.is_transformed)
        self._mapping = mapping
        self._values = values

    def check(self, names: Sequence[str], source: str, *, is_text: bool = False) -> None:
        """Raise InvalidPatientsError if records with all these columns cannot be patients."""
        self._mapping.check([*names, *self._values], source, is_text=is_text)
