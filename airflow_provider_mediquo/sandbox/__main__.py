"""``python -m airflow_provider_mediquo.sandbox``: runs the sandbox until Ctrl-C."""

import argparse
import json
import shlex
import signal
import sys
import threading
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from airflow_provider_mediquo.sandbox.sandbox import LOOPBACK, Sandbox
from airflow_provider_mediquo.sandbox.settings import Settings

READY = """mediQuo sandbox
  Base URL  {sandbox.url}
  Page      {sandbox.home}/
  API docs  {sandbox.home}/docs
  Airflow connection, as an environment variable:
    AIRFLOW_CONN_MEDIQUO_DEFAULT={connection}
Ctrl-C stops it."""


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM, and return the exit code."""
    parser = build_parser()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with Sandbox(**vars(parser.parse_args(arguments))) as sandbox:
            print(
                READY.format(
                    sandbox=sandbox, connection=shlex.quote(json.dumps(sandbox.connection))
                )
            )
            sys.stdout.flush()
            stopped.wait()
    except ValidationError as error:
        parser.error("; ".join(map(_message, error.errors())))
    except (OSError, OverflowError) as error:
        print(f"Cannot listen: {error}. Choose another --port or --host.", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return a parser with a flag for each setting; the result only has the flags that were given."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_mediquo.sandbox",
        usage="%(prog)s [-h] [--host HOST] [--port PORT] [--SETTING VALUE ...]",
        description="Start a local mock of mediQuo. Each setting can also be changed while it runs.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8484, help="port to listen on, 0: a free one (%(default)s)"
    )
    parser.add_argument("--api-key", help="the valid X-API-Key (sandbox-api-key)")
    parser.add_argument("--secret-key", help="the valid X-Secret-Key (sandbox-secret-key)")
    group = parser.add_argument_group("settings")
    for name, field in Settings.model_fields.items():
        text = f"{field.description} ({field.default!r})"
        group.add_argument(_flag(name), help=text.replace("%", "%%"), **_kind(field))
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kind(field: FieldInfo) -> dict[str, Any]:
    """Return how argparse reads a setting; pydantic then converts and checks it."""
    if field.annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(field.annotation) is Literal:
        choices = get_args(field.annotation)
        return {"choices": choices, "type": type(choices[0])}
    return {"metavar": "TEXT" if field.annotation is str else "NUMBER"}


def _message(error: Any) -> str:
    return f"{_flag(str(error['loc'][0]))}: {error['msg']}"


if __name__ == "__main__":
    sys.exit(main())
