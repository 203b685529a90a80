"""Recognizes formats that cannot be read, by the first bytes of a file."""

from __future__ import annotations

import re

_MAGIC = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"PK\x05\x06": "a ZIP archive with nothing in it",
    b"\xd0\xcf\x11\xe0": "an Excel workbook or another Office file",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
    b"\x04\x22\x4d\x18": "compressed with LZ4",
    b"\xff\x06\x00\x00sNaPpY": "compressed with Snappy",
    b"\x1f\x9d": "compressed with compress",
    b"LZIP": "compressed with lzip",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"Obj\x01": "an Avro file",
    b"ARROW1": "an Arrow (Feather) file",
    b"FEA1": "an Arrow (Feather) file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"SEQ\x06": "a Hadoop sequence file",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"SQLite format 3": "an SQLite database",
    b"-----BEGIN": "encrypted or signed, as by PGP",
    b"age-encryption.org": "encrypted with age",
    b"Salted__": "encrypted with OpenSSL",
}
_PGP = tuple(
    bytes.fromhex(begin)  # of packets: the key or the password of a message, sizes of usual keys
    for begin in ("85010c03", "85018c03", "85020c03", "848c03", "845e03", "c1c04c03", "c14c03")
    + ("c15e03", "8c0d04", "c30d04")
)
_TAR_AT = 257
# A header may begin the same way, and \x01 and \x1f may be delimiters: PARENTESCO;CODE
_ORC = re.compile(rb"ORC[\s\S]{0,8}?[\x00\x02-\x08\x0e-\x1e]")
_ENCRYPTED_PARQUET = re.compile(rb"PARE[\s\S]{0,8}?[\x00\x02-\x08\x0e-\x1e]")
_MARKUP = ("<!doctype", "<html", "<?xml", "<table", "<meta", "<head", "<body", "<!--")


def unreadable_format(head: bytes) -> str:
    """Return the name of a format that cannot be read; empty for any other.

    :param head: the first bytes of a file.
    """
    if head.startswith(_PGP):
        return "encrypted with PGP"
    if head[_TAR_AT:].startswith(b"ustar"):
        return "a tar archive"
    if _ORC.match(head):
        return "an ORC file"
    if _ENCRYPTED_PARQUET.match(head):
        return "encrypted Parquet"
    return next((what for magic, what in _MAGIC.items() if head.startswith(magic)), "")


def is_markup(text: str) -> bool:
    """Whether it is HTML or XML, such as an error page or an exported sheet."""
    return text.lstrip().lower().startswith(_MARKUP)
