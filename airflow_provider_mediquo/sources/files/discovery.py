"""Finds the files of a path, on any storage that ObjectStoragePath supports."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.api.text import escaped, shown
from airflow_provider_mediquo.sources.files.tables import (
    IsRead,
    refuse_log,
    refuse_tables,
    without_values,
)

log = logging.getLogger(__name__)

_BLOCK = 1 << 20  # bytes that are read ahead; s3fs alone would take 50 MiB
_NEIGHBOUR = re.compile(
    r"^~\$|^(md5|sha(1|256|512))sums?(\.txt)?$|^thumbs\.db$|^desktop\.ini$"
    r"|_\$folder\$$|\.(md5|sha1|sha256|sha512|crc|crc32|sfv|metadata|sig|manifest)$",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"\.asc$", re.IGNORECASE)  # or data: it is an old ending of CSV, too
_BACKUP = re.compile(r"\.(bak|swp)$|~$", re.IGNORECASE)
_UNFINISHED = re.compile(
    r"\.(te?mp|part|partial|filepart|(cr|op)?download|uploading|incomplete|inprogress|aria2|_copying_)$"
    r"|\.gstmp$|\.part\.minio$"  # gsutil: members.csv_.gstmp; MinIO
    r"|\.inprogress\."  # Flink: .part-0-0.inprogress.1
    r"|^\..+\.\w+\.(?!backup|sha)[a-z0-9]{6}$|^\.~tmp~$"  # rsync: .members.csv.Xk3aQz
    r"|^\.in\.|^\.(pureftpd|sftpgo)-upload\."  # lftp, FTP servers; ProFTPD: .in.members.csv.
    r"|^\.azdownload-|^\.distcp\.tmp\."  # AzCopy, Hadoop
    r"|^_temporary$",  # Spark, until its job is committed
    re.IGNORECASE,
)

_DOWNLOAD = re.compile(  # of boto3 and the AWS CLI: members.csv.8fE2dAbC; but not a day
    r"[^/]\.(?![0-9]{8}$)[0-9a-f]{8}$", re.IGNORECASE
)

_MAY_NAME_FOLDER = re.compile(r"[=%&\\]")  # also as plan%3Dgold, plan\u003dgold


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
        problem = _cannot_list(escaped(path), error)
    if problem is not None:  # outside the `except`: what it would chain may name folders
        raise problem
    if not found:
        raise SourceError(
            f"There is no file at {escaped(path)} yet.\nCheck `path`, which the worker reads. If the file "
            "comes later, a retry finds it."
        )
    return found


def _cannot_list(where: str, error: Exception) -> SourceError:
    """Return an error with what the storage says, unless that may name a folder such as `plan=gold`."""
    text = str(error)
    is_clear = text and not _MAY_NAME_FOLDER.search(text)
    said = shown(text) if is_clear else "nothing that can be shown."
    return SourceError(f"Cannot list {where}: {type(error).__name__}.\nThe storage says: {said}")


def _find(path: str, conn_id: str | None, is_read: IsRead) -> list[StoredFile]:
    from airflow.sdk import ObjectStoragePath

    if "://" not in path:
        path = os.path.abspath(path)  # Airflow 3.1 reads a relative path as one below `/`
    # Airflow 3.1 would use None instead of the connection in the URL.
    given = ObjectStoragePath(path, **({"conn_id": conn_id} if conn_id else {}))
    keys = sorted({*_Search(given.fs, is_read).keys(given.path)})
    # The files below a folder were checked while it was listed.
    refuse_tables(given.fs, keys if is_glob(given.path) else [given.path])
    return [StoredFile(given.fs, key) for key in keys]


def is_glob(path: str) -> bool:
    """Whether it has characters of a glob."""
    return not {*path}.isdisjoint("*?[")


class _Search:
    """Looks at each folder once, however many links lead to it, or back."""

    def __init__(self, storage: Any, is_read: IsRead) -> None:
        self._storage = storage
        self._is_read = is_read
        self._seen: set[str] = set()

    def keys(self, path: str) -> Iterator[str]:
        """Yield the files; a path that exists is not a glob, whatever characters it has."""
        try:
            info = self._storage.info(path)
        except FileNotFoundError:
            yield from self._matching(path)
        else:
            yield from self._within(path, info)

    def _matching(self, pattern: str) -> Iterator[str]:
        if not is_glob(pattern):
            return
        # Characters before those of a glob.
        known = len(re.split(r"[*?\[]", pattern)[0].rpartition("/")[0])
        shows = any(map(_is_hidden, pattern[known:].split("/")))
        asked_for = _is_unfinished(pattern[known:]) or _DOWNLOAD.search(pattern)
        found = self._storage.glob(pattern, detail=True)
        files = _files(found.values())
        for key, info in found.items():
            if not asked_for:
                self._refuse_unfinished(key, info, since=known)
            if (reason := _reason_against(key, files)) and not _reason_against(pattern):
                log.info("Skipped %s: it %s.", self._shown(key, info), reason)
            elif shows or not any(map(_is_hidden, key[known:].split("/"))):
                yield from self._within(key, info)

    def _within(self, key: str, info: dict[str, Any]) -> Iterator[str]:
        if self._is_folder(key, info):
            yield from self._below(key)
        elif info["type"] != "file" and not self._storage.isfile(key):  # a pipe, which has no end
            raise SourceError(f"{self._shown(key, info)} is neither a file nor a folder.")
        elif not key.endswith("/"):  # an object that stands for a folder
            yield key

    def _below(self, folder: str) -> Iterator[str]:
        real = os.path.realpath(folder) if "file" in self._storage.protocol else folder
        if real in self._seen:
            return
        self._seen.add(real)
        found = self._list(folder)
        files = _files(found)
        for info in found:
            key = info["name"]
            refuse_log(key)
            self._refuse_unfinished(key, info, since=len(folder))
            if reason := _reason_against(key, files):
                log.info("Skipped %s: it %s.", self._shown(key, info), reason)
            elif key.rstrip("/") == folder.rstrip("/"):
                continue
            elif _is_hidden(key):
                log.info("Skipped %s: it is hidden.", self._shown(key, info))
            else:
                yield from self._within(key, info)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        problem = None
        try:
            # Not `find` or `walk`, which silently skip folders that may not be listed.
            return [*self._storage.ls(folder, detail=True)]
        except Exception as error:  # noqa: BLE001  # each storage has its own errors
            problem = _cannot_list(self._shown(folder, {"type": "directory"}), error)
        raise problem

    def _is_folder(self, key: str, info: Mapping[str, Any]) -> bool:
        """Return whether it is a folder, or a link to one."""
        return info["type"] == "directory" or (
            info["type"] != "file" and bool(self._storage.isdir(key))
        )

    def _shown(self, key: str, info: Mapping[str, Any]) -> str:
        """Return the name of a file or a folder for messages, as one line."""
        key = key.rstrip("/") + "/" * (info["type"] != "file")
        return escaped(without_values(key, self._is_read).rstrip("/"))

    def _refuse_unfinished(self, key: str, info: Mapping[str, Any], since: int) -> None:
        """Raise SourceError for a file that is not complete: without it, its members would be missing.

        :param since: where the folders begin whose names count, too.
        """
        is_download = _DOWNLOAD.search(key) and not self._is_folder(key, info)
        if is_download or _is_unfinished(key[since:]):
            raise SourceError(
                f"{self._shown(key, info)} seems to be an upload in progress.\nRun again when it is complete; or "
                "delete it, or give a glob that leaves it out."
            )


def _is_hidden(path: str) -> bool:
    """Whether it is not data, such as Spark's `_SUCCESS` and `.crc`; `_plan=gold` holds data."""
    name = path.rstrip("/").rpartition("/")[2]
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _files(found: Iterable[Mapping[str, Any]]) -> set[str]:
    return {info["name"] for info in found if info["type"] != "directory"}


def _reason_against(path: str, others: Collection[str] = ()) -> str:
    """Return why it is not read: it is a checksum, a signature, or a backup; empty for data.

    :param others: the files in the same listing: an `.asc` without the file that it signs is data.
    """
    name = path.rstrip("/").rpartition("/")[2]
    is_signature = _SIGNATURE.search(name) and _SIGNATURE.sub("", path) in others
    if is_signature or _NEIGHBOUR.search(name):
        return "holds no records"
    return "is a backup" if _BACKUP.search(name) else ""


def _is_unfinished(path: str) -> bool:
    return any(map(_UNFINISHED.search, path.split("/")))
