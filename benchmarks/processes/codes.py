"""What the codes of so many patients take, as the check for duplicates keeps them.

Usage: codes.py COUNT LOOKS FILE
"""

import json
import sys
from pathlib import Path

from call import held, report


def keep(count: int, looks: int, file: Path) -> None:
    """Keep a number for each, and write down the memory so often."""
    seen, kept = [], set()
    for number in range(1, count + 1):
        kept.add((hash(f"M-{number:07}") & (1 << 59) - 1) << 1)
        if number % (count // looks) == 0:
            seen.append((number, *held()))
    file.write_text(json.dumps(seen))


count, looks, file = sys.argv[1:]
report(lambda: keep(int(count), int(looks), Path(file)))
