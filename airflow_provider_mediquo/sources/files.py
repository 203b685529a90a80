"""Which files a path means, on any storage that ObjectStoragePath reaches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_provider_mediquo.api.bounds import escaped
from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError

_BLOCK = 1 << 20  # bytes that a store is asked for beyond those that are read; s3fs takes 50 MiB


class StoredFile(NamedTuple):
    """A file.

    :param storage: an fsspec file system.
    :param key: what the storage calls it.
    """

    storage: Any
    key: str

    @property
    def name(self) -> str:
        """What a person calls it: a local path, or a URL, as one line."""
        return escaped(str(self.storage.unstrip_protocol(self.key)).removeprefix("file://"))

    def open(self) -> Any:
        """Open it as a stream of bytes."""
        return self.storage.open(self.key, "rb", block_size=_BLOCK)


def find_files(path: str, conn_id: str | None = None) -> list[StoredFile]:
    """Return the files that a path means, by name; raises SourceError where there is none.

    :param path: a file, a folder or a glob.
    :param conn_id: Airflow's connection to the storage.
    """
    if not path.strip():
        raise InvalidPatientsError("`path` is empty: it must be a file, a folder or a glob.")
    try:
        found = _find(path, conn_id)
    except MediquoError:
        raise
    except Exception as error:
        # Nothing has been read yet: no value of a patient can be in what is chained here.
        what = type(error).__name__
        raise SourceError(f"{escaped(path)} cannot be looked for: {what}.") from error
    if not found:
        raise SourceError(f"There is no file at {escaped(path)}, or not yet.")
    return found


def _find(path: str, conn_id: str | None) -> list[StoredFile]:
    from airflow.sdk import ObjectStoragePath

    if "://" not in path:
        path = os.path.abspath(path)  # Airflow 3.1 takes a relative path for one below `/`
    # Airflow 3.1 takes a None for a connection, before the one of the URL.
    given = ObjectStoragePath(path, **({"conn_id": conn_id} if conn_id else {}))
    return [StoredFile(given.fs, key) for key in sorted({*_keys(given.fs, given.path)})]


def _keys(storage: Any, path: str) -> Iterator[str]:
    """Yield what there is as it is named, before a character is taken for that of a glob."""
    try:
        info = storage.info(path)
    except FileNotFoundError:
        yield from _matching(storage, path)
    else:
        yield from _within(storage, path, info)


def _matching(storage: Any, pattern: str) -> Iterator[str]:
    if not {*"*?["} & {*pattern}:
        return
    known = len(re.split(r"[*?\[]", pattern)[0].rpartition("/")[0])  # characters before a glob's
    shows = any(map(_is_hidden, pattern[known:].split("/")))
    for key, info in storage.glob(pattern, detail=True).items():
        if shows or not any(map(_is_hidden, key[known:].split("/"))):
            yield from _within(storage, key, info)


def _within(storage: Any, key: str, info: dict[str, Any]) -> Iterator[str]:
    is_link = info["type"] not in ("file", "directory")  # or what has no end, a device or a pipe
    if is_link and not storage.isdir(key) and not storage.isfile(key):
        raise SourceError(f"{escaped(key)} is neither a file nor a folder.")
    if is_link and key.startswith(f"{os.path.realpath(key)}/"):
        raise RecursionError  # a link to a folder that it is in
    if info["type"] == "directory" or (is_link and storage.isdir(key)):
        yield from _below(storage, key)
    elif not key.endswith("/"):  # which is how the console of a store makes a folder
        yield key


def _below(storage: Any, folder: str) -> Iterator[str]:
    # Not `find` or `walk`, which leave out what may not be listed without a word.
    for info in storage.ls(folder, detail=True):
        key = info["name"]
        if not _is_hidden(key) and key.rstrip("/") != folder.rstrip("/"):
            yield from _within(storage, key, info)


def _is_hidden(path: str) -> bool:
    """Whether it is no data: a `_SUCCESS` or a `.crc` of Spark, say."""
    return path.rstrip("/").rpartition("/")[2].startswith(("_", "."))
