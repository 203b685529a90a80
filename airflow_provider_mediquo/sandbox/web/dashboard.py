"""The dashboard at `/`: counters, settings and the latest requests, without patient data."""

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import Any

from airflow_provider_mediquo.sandbox.model.journal import Entry
from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.settings import Settings

MAX_REQUESTS = 50
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="2">
<link rel="icon" href="data:,">
<title>mediQuo sandbox</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }}
table {{ border-collapse: collapse; margin-bottom: 1em; }}
th, td {{ text-align: left; padding: .15em 1em .15em 0; border-bottom: 1px solid #ddd; }}
</style>
</head>
<body>
<h1>mediQuo sandbox</h1>
<p>Base URL: <code>{base_url}</code>. Try the endpoints and change the settings in the
<a href="/docs">API docs</a> (your browser loads their scripts from a CDN), or with any client:
<a href="/openapi.json">openapi.json</a>.</p>
<h2>Counters</h2>
{counters}
<h2>Latest requests</h2>
{requests}
<h2>Settings</h2>
{settings}
</body>
</html>
"""


def render(mediquo: MediQuo, base_url: str, totals: dict[str, Any]) -> str:
    return PAGE.format(
        base_url=escape(base_url),
        counters=_table(("Counter", "Value"), _flat(totals)),
        requests=_table(
            ("Time (UTC)", "Method", "Path", "Status", "Patients", "Seconds", "Fault"),
            map(_row, reversed(mediquo.journal.entries()[-MAX_REQUESTS:])),
        ),
        settings=_table(("Setting", "Value", "Meaning"), _meanings(mediquo.settings)),
    )


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [_line("th", head), *(_line("td", row) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _line(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _flat(totals: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in totals.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, value


def _row(entry: Entry) -> tuple[object, ...]:
    return (
        f"{datetime.fromtimestamp(entry.at, UTC):%H:%M:%S}",
        entry.method,
        entry.path,
        entry.status or "no response",
        entry.patients,
        f"{entry.seconds:.3f}",
        entry.fault,
    )


def _meanings(settings: Settings) -> Iterable[tuple[str, object, str | None]]:
    for name, field in Settings.model_fields.items():
        yield name, getattr(settings, name), field.description
