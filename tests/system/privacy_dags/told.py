"""What a callback of a failed task can read."""

import json
import os
import uuid
from pathlib import Path

from tests.support.carried import locals_of, texts_of


def write_down(context):
    """Write down all that the error of a failed task carries."""
    error = context.get("exception")
    ti = context.get("ti") or context.get("task_instance")
    said = {
        "task": getattr(ti, "task_id", None),
        "error": type(error).__name__,
        "texts": [*texts_of(error)] if isinstance(error, BaseException) else [repr(error)],
        "locals": [*locals_of(error)] if isinstance(error, BaseException) else [],
    }
    folder = Path(os.environ["PRIVACY_ERRORS"])
    (folder / f"{said['task']}-{uuid.uuid4().hex}.json").write_text(json.dumps(said))
