"""Finds the files of a path, on any storage that ObjectStoragePath supports."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.api.text import escaped
from airflow_provider_mediquo.sources.files.names import is_glob
from airflow_provider_mediquo.sources.files.search import (
    Search,
    cannot_list,
    is_object_store,
    without_name,
)
from airflow_provider_mediquo.sources.files.tables import IsRead, refuse_tables, without_values
from airflow_provider_mediquo.sources.storage import storage_path

_BLOCK = 1 << 20  # bytes that are read ahead; s3fs alone would take 50 MiB


class StoredFile(NamedTuple):
    """A file.

    :param storage: an fsspec file system.
    :param key: what the storage calls it.
    """

    storage: Any
    key: str

    def shown(self, is_read: IsRead) -> str:
        """Return its name for messages: a local path or a URL, as one line.

        :param is_read: whether a column is read; its values in the names of folders are left out.
        """
        key = without_values(self.key, is_read)
        return escaped(str(self.storage.unstrip_protocol(key)).removeprefix("file://"))

    def open(self) -> Any:
        """Open it as a stream of bytes."""
        return self.storage.open(self.key, "rb", block_size=_BLOCK)


def find_files(
    path: str, conn_id: str | None = None, is_read: IsRead = lambda name: True
) -> list[StoredFile]:
    """Return the files of a path, sorted by name; raises SourceError if there is none.

    :param path: a file, a folder or a glob.
    :param conn_id: Airflow's connection to the storage.
    :param is_read: whether a column is read; its values in the names of folders are in no message.
    """
    if not path.strip():
        raise InvalidPatientsError("`path` is empty: it must be a file, a folder or a glob.")
    found, problem = list[StoredFile](), None
    try:
        found = _find(path, conn_id, is_read)
    except MediquoError:
        raise
    except Exception as error:  # noqa: BLE001  # each storage has its own errors
        problem = cannot_list(escaped(path), error)
    if problem is not None:  # outside the `except`: what it would chain may name folders
        raise problem
    if not found:
        raise SourceError(
            f"There is no file at {escaped(path)} yet.\nCheck `path`, which the worker reads. If the file "
            "comes later, a retry finds it."
        )
    return found


def _find(path: str, conn_id: str | None, is_read: IsRead) -> list[StoredFile]:
    given = storage_path(path, conn_id)
    given.fs.invalidate_cache()  # of an earlier task in the same process
    has_empty_name = "//" in path.partition("://")[2] and is_object_store(given.fs)
    if has_empty_name and not given.fs.isfile(given.path):
        raise without_name(escaped(without_values(path, is_read)))
    keys = sorted({*Search(given.fs, is_read).keys(given.path)})
    # The files below a folder were checked while it was listed.
    refuse_tables(given.fs, keys if is_glob(given.path) else [given.path])
    return [StoredFile(given.fs, key) for key in keys]
