"""Looks through folders and globs for files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.text import escaped, shown
from airflow_provider_mediquo.sources.files.names import (
    DOWNLOAD,
    files_of,
    is_entered,
    is_glob,
    is_hidden,
    is_unfinished,
    name_of,
    reason_against,
    refuse_stars,
)
from airflow_provider_mediquo.sources.files.tables import (
    IsRead,
    protocols,
    refuse_log,
    without_values,
)

log = logging.getLogger(__name__)

_MAY_NAME_FOLDER = re.compile(r"[=%&\\]")  # also as plan%3Dgold, plan\u003dgold
_OBJECT_STORES = {"s3", "gs", "gcs", "abfs", "adl"}


class Search:
    """Looks at each folder once, however many links lead to it, or back."""

    def __init__(self, storage: Any, is_read: IsRead) -> None:
        self._storage = storage
        self._is_read = is_read
        self._seen: set[str] = set()

    def keys(self, path: str) -> Iterator[str]:
        """Yield the files; a path that exists is not a glob, whatever characters it has."""
        if info := self._at(path):
            found = self._each_once([info, *self._folder_of_the_name(path, info)])
            yield from self._within(path, found[0])
        elif is_glob(path):
            yield from self._matching(path)

    def _at(self, path: str) -> dict[str, Any] | None:
        with suppress(FileNotFoundError):
            return dict(self._storage.info(path))
        return None

    def _folder_of_the_name(self, path: str, info: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the folder that has the same name as a file."""
        may_be = info["type"] == "file" and is_object_store(self._storage)
        return [{**info, "type": "directory"}] if may_be and self._storage.isdir(path) else []

    def _each_once(self, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out the empty files that stand for folders; any other file of such a name is an error."""
        folders = {info["name"] for info in found if info["type"] == "directory"}
        twins = [info for info in found if info["type"] == "file" and info["name"] in folders]
        for info in twins:
            if info["size"] != 0:
                raise _file_and_folder(self._shown_folder(info["name"]))
        return [info for info in found if info not in twins]

    def _matching(self, pattern: str) -> Iterator[str]:
        refuse_stars(pattern)
        # Characters before those of a glob.
        known = len(re.split(r"[*?\[]", pattern)[0].rpartition("/")[0])
        shows = any(map(is_hidden, pattern[known:].split("/")))
        asked_for = is_unfinished(pattern[known:]) or DOWNLOAD.search(pattern)
        folder, parts = pattern[:known] or "/", pattern[known:].strip("/").split("/")
        found = [*self._expanded(folder, parts)] if self._at(folder) else []
        files = files_of(found)
        for info in self._each_once(found):
            key = info["name"]
            if not asked_for:
                self._refuse_unfinished(key, info, since=known)
            if (reason := reason_against(key, files)) and not reason_against(pattern):
                log.info("Skipped %s: it %s.", self._shown(key, info), reason)
            elif shows or not any(map(is_hidden, key[known:].split("/"))):
                yield from self._within(key, info)

    def _expanded(self, folder: str, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield what a glob matches in a folder: a name for each part; `**` is any number of folders.

        Not `glob`, which silently skips folders without a name, or that may not be listed.
        """
        part, *rest = parts
        is_deep = part == "**" and bool(rest)
        if is_deep:
            yield from self._expanded(folder, rest)
        for info in self._list(folder, leaves_out=not fnmatchcase("", part)):
            if not fnmatchcase(name_of(info), part):
                continue
            if not rest:
                yield info
            elif info["type"] == "directory" and is_entered(name_of(info), part):
                yield from self._expanded(info["name"], parts if is_deep else rest)

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
        files = files_of(found)
        for info in self._each_once(found):
            key = info["name"]
            refuse_log(key)
            self._refuse_unfinished(key, info, since=len(folder))
            if reason := reason_against(key, files):
                log.info("Skipped %s: it %s.", self._shown(key, info), reason)
            elif is_hidden(key):
                log.info("Skipped %s: it is hidden.", self._shown(key, info))
            else:
                yield from self._within(key, info)

    def _list(self, folder: str, *, leaves_out: bool = False) -> list[dict[str, Any]]:
        """Return what is in a folder, without the object that stands for the folder itself.

        :param leaves_out: a folder without a name; otherwise it is an error.
        """
        found, problem = list[dict[str, Any]](), None
        try:
            # Not `find` or `walk`, which silently skip folders that may not be listed.
            found = [*self._storage.ls(folder, detail=True)]
        except Exception as error:  # noqa: BLE001  # each storage has its own errors
            problem = cannot_list(self._shown_folder(folder), error)
        if problem is not None:  # outside the `except`: what it would chain may name folders
            raise problem
        itself = [info for info in found if info["name"].rstrip("/") == folder.rstrip("/")]
        if not leaves_out and any(map(_is_without_name, itself)):
            raise without_name(self._shown_folder(folder))
        return [info for info in found if info not in itself]

    def _is_folder(self, key: str, info: Mapping[str, Any]) -> bool:
        """Return whether it is a folder, or a link to one."""
        return info["type"] == "directory" or (
            info["type"] != "file" and bool(self._storage.isdir(key))
        )

    def _shown(self, key: str, info: Mapping[str, Any]) -> str:
        """Return the name of a file or a folder for messages, as one line."""
        key = key.rstrip("/") + "/" * (info["type"] != "file")
        return escaped(without_values(key, self._is_read).rstrip("/"))

    def _shown_folder(self, folder: str) -> str:
        return self._shown(folder, {"type": "directory"})

    def _refuse_unfinished(self, key: str, info: Mapping[str, Any], since: int) -> None:
        """Raise SourceError for a file that is not complete: without it, its members would be missing.

        :param since: where the folders begin whose names count, too.
        """
        is_download = DOWNLOAD.search(key) and not self._is_folder(key, info)
        if is_download or is_unfinished(key[since:]):
            raise SourceError(
                f"{self._shown(key, info)} seems to be an upload in progress.\nRun again when it is complete; or "
                "delete it, or give a glob that leaves it out."
            )


def _is_without_name(info: Mapping[str, Any]) -> bool:
    """Whether what has the name of the folder it is in is a folder: `in/` in `in`, of `in//a.csv`."""
    return bool(info["type"] == "directory" and info["name"].endswith("/"))


def without_name(where: str) -> InvalidPatientsError:
    """Return an error about a folder that no storage lists as one."""
    return InvalidPatientsError(
        f"{where} has a folder without a name.\nWith two slashes in a row (`in//a.csv`), its files "
        "would be left out. Rename them (`in/a.csv`), correct `path`, or let it name one file."
    )


def _file_and_folder(name: str) -> InvalidPatientsError:
    return InvalidPatientsError(
        f"{name} is a file, and {name}/ is a folder.\nWhich of them holds the members is not certain. "
        f"Rename or delete one; or give a glob, which leaves the file out: {name}/*"
    )


def is_object_store(storage: Any) -> bool:
    """Whether it has only keys, such as S3: the names of folders in them may be empty, or those of files."""
    return not _OBJECT_STORES.isdisjoint(protocols(storage))


def cannot_list(where: str, error: Exception) -> SourceError:
    """Return an error with what the storage says, unless that may name a folder such as `plan=gold`."""
    text = str(error)
    is_clear = text and not _MAY_NAME_FOLDER.search(text)
    said = shown(text) if is_clear else "nothing that can be shown."
    return SourceError(f"Cannot list {where}: {type(error).__name__}.\nThe storage says: {said}")
