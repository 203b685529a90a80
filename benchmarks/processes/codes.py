"""The memory for the codes of many patients, as the check for duplicates stores them.

Usage: codes.py COUNT LOOKS FILE
"""

import json
import sys
from pathlib import Path

from call import held, report


def keep(count: int, looks: int, file: Path) -> None:
    """Store a number for each code, and record the memory at intervals."""
    seen, kept = [], set()
    for number in range(1, count + 1):
        kept.add((hash(f"M-{number:07}") & (1 << 59) - 1) << 1)
        if number % (count // looks) == 0:
            seen.append((number, *held()))
    file.write_text(json.dumps(seen))


count, looks, file = sys.argv[1:]
report(lambda: keep(int(count), int(looks), Path(file)))
