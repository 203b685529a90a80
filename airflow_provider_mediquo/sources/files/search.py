"""Looks through folders and globs for files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_mediquo.api.errors import SourceError
from airflow_provider_mediquo.api.text import escaped, shown
from airflow_provider_mediquo.sources.files.names import (
    DOWNLOAD,
    files_of,
    is_glob,
    is_hidden,
    is_unfinished,
    reason_against,
)
from airflow_provider_mediquo.sources.files.tables import IsRead, refuse_log, without_values

log = logging.getLogger(__name__)

_MAY_NAME_FOLDER = re.compile(r"[=%&\\]")  # also as plan%3Dgold, plan\u003dgold


class Search:
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
        shows = any(map(is_hidden, pattern[known:].split("/")))
        asked_for = is_unfinished(pattern[known:]) or DOWNLOAD.search(pattern)
        found = self._storage.glob(pattern, detail=True)
        files = files_of(found.values())
        for key, info in found.items():
            if not asked_for:
                self._refuse_unfinished(key, info, since=known)
            if (reason := reason_against(key, files)) and not reason_against(pattern):
                log.info("Skipped %s: it %s.", self._shown(key, info), reason)
            elif shows or not any(map(is_hidden, key[known:].split("/"))):
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
        files = files_of(found)
        for info in found:
            key = info["name"]
            refuse_log(key)
            self._refuse_unfinished(key, info, since=len(folder))
            if reason := reason_against(key, files):
                log.info("Skipped %s: it %s.", self._shown(key, info), reason)
            elif key.rstrip("/") == folder.rstrip("/"):
                continue
            elif is_hidden(key):
                log.info("Skipped %s: it is hidden.", self._shown(key, info))
            else:
                yield from self._within(key, info)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        problem = None
        try:
            # Not `find` or `walk`, which silently skip folders that may not be listed.
            return [*self._storage.ls(folder, detail=True)]
        except Exception as error:  # noqa: BLE001  # each storage has its own errors
            problem = cannot_list(self._shown(folder, {"type": "directory"}), error)
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
        is_download = DOWNLOAD.search(key) and not self._is_folder(key, info)
        if is_download or is_unfinished(key[since:]):
            raise SourceError(
                f"{self._shown(key, info)} seems to be an upload in progress.\nRun again when it is complete; or "
                "delete it, or give a glob that leaves it out."
            )


def cannot_list(where: str, error: Exception) -> SourceError:
    """Return an error with what the storage says, unless that may name a folder such as `plan=gold`."""
    text = str(error)
    is_clear = text and not _MAY_NAME_FOLDER.search(text)
    said = shown(text) if is_clear else "nothing that can be shown."
    return SourceError(f"Cannot list {where}: {type(error).__name__}.\nThe storage says: {said}")
