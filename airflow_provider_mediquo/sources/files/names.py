"""What the name of a file says: a glob, hidden, half an upload, or nothing that holds records."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError

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

DOWNLOAD = re.compile(  # of boto3 and the AWS CLI: members.csv.8fE2dAbC; but not a day
    r"[^/]\.(?![0-9]{8}$)[0-9a-f]{8}$", re.IGNORECASE
)


def is_glob(path: str) -> bool:
    """Whether it has characters of a glob."""
    return not {*path}.isdisjoint("*?[")


def refuse_stars(pattern: str) -> None:
    """Raise InvalidPatientsError for a glob such as `**.csv`, which would mean `*.csv`."""
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise InvalidPatientsError(
            "`path`: write `**` between slashes, such as `**/*.csv`.\nAs a part of a name it is not "
            "any number of folders."
        )


def name_of(info: Mapping[str, Any]) -> str:
    """Return the name of what is in a folder."""
    key = info["name"].rstrip("/") if info["type"] == "directory" else info["name"]
    return str(key.rpartition("/")[2])


def is_hidden(path: str) -> bool:
    """Whether it is not data, such as Spark's `_SUCCESS` and `.crc`; `_plan=gold` holds data."""
    name = path.rstrip("/").rpartition("/")[2]
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def is_entered(name: str, part: str) -> bool:
    """Whether the part of a glob that matches a folder leads into it: not if only the folder is hidden."""
    return is_hidden(part) or is_unfinished(name) or not is_hidden(name)


def files_of(found: Iterable[Mapping[str, Any]]) -> set[str]:
    return {info["name"] for info in found if info["type"] != "directory"}


def reason_against(path: str, others: Collection[str] = ()) -> str:
    """Return why it is not read: it is a checksum, a signature, or a backup; empty for data.

    :param others: the files in the same listing: an `.asc` without the file that it signs is data.
    """
    name = path.rstrip("/").rpartition("/")[2]
    is_signature = _SIGNATURE.search(name) and _SIGNATURE.sub("", path) in others
    if is_signature or _NEIGHBOUR.search(name):
        return "holds no records"
    return "is a backup" if _BACKUP.search(name) else ""


def is_unfinished(path: str) -> bool:
    return any(map(_UNFINISHED.search, path.split("/")))
