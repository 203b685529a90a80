"""The page at `/`: lines, counters, latest requests, and switches for faults; no patient data.

The server draws all of it. The script fetches the page again each second and replaces what has changed.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any

from airflow_provider_mediquo.sandbox.model.faults import ENDPOINTS, OUTCOMES
from airflow_provider_mediquo.sandbox.model.history import SECONDS, History
from airflow_provider_mediquo.sandbox.model.journal import Entry
from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.settings import Settings
from airflow_provider_mediquo.sandbox.web.charts import Line, line_chart
from airflow_provider_mediquo.sandbox.web.pages import table

MAX_REQUESTS = 25
SWITCHED_ON = 0.2
"""The share of requests that a switch makes fail."""
SWITCHES = {
    "error_rate": "Server errors (5xx)",
    "lost_before_rate": "Connections cut before a write",
    "lost_after_rate": "Answers lost after a write",
}
SCRIPTED = [*list(OUTCOMES)[1:], "400", "401", "409", "422", "429:3", "500", "503"]
_TABLE_SECONDS = 10  # a row
_RATES = {
    "upsert": "upserts",
    "get": "reads",
    "authenticate": "logins",
    "refused": "refused with 429",
}
_WRITES = {"accepted": "accepted", "visible": "visible"}
PAGE = """<header>
<h1>mediQuo sandbox</h1>
<p>Base URL: <code>{base_url}</code> · <a href="/docs">API docs</a> ·
<a href="/openapi.json">openapi.json</a> · <button type="button" id="pause">Pause</button>
<span id="status" role="status"></span></p>
<noscript><p>Without JavaScript this page shows the state when it was loaded. Change settings with
<a href="/docs">the control API</a>.</p></noscript>
</header>
<section aria-labelledby="requests-heading">
<h2 id="requests-heading">Requests a second</h2>
<div id="rates" data-live>{rates}</div>
</section>
<section aria-labelledby="patients-heading">
<h2 id="patients-heading">Patients in accepted writes</h2>
<div id="writes" data-live>{writes}</div>
</section>
<details><summary>Both charts as a table</summary>
{numbers}
</details>
<section aria-labelledby="faults-heading">
<h2 id="faults-heading">Faults</h2>
<p>A switch makes {share} of all requests fail, at random.</p>
<div class="switches">{switches}</div>
<form id="script" aria-label="Fault of the next request">
<label>The next <select name="endpoint">{endpoints}</select></label>
<label>ends with <select name="outcome">{outcomes}</select></label>
<button type="submit">Add</button>
</form>
<p id="scripted" data-live>{scripted}</p>
<p><button type="button" data-post="/sandbox/restart">Restart mediQuo</button>
cuts connections and loses writes that are not visible yet.
<button type="button" data-post="/sandbox/reset">Reset</button> clears patients and counters.</p>
</section>
<section aria-labelledby="latest-heading">
<h2 id="latest-heading">Latest requests</h2>
{upserts}
{others}
</section>
<section aria-labelledby="counters-heading">
<h2 id="counters-heading">Counters and settings</h2>
{counters}
{settings}
</section>
<script src="/assets/sandbox.js" type="module"></script>"""
_HEAD = ("Time (UTC)", "Method", "Path", "Status", "Patients", "Seconds", "Fault")


def render(mediquo: MediQuo, base_url: str, totals: dict[str, Any]) -> str:
    history, entries = mediquo.journal.history, mediquo.journal.entries()
    upserts = [entry for entry in entries if entry.endpoint == "upsert"]
    others = [entry for entry in entries if entry.endpoint != "upsert"]
    return PAGE.format(
        base_url=escape(base_url),
        rates=_rates(history, mediquo.settings),
        writes=_writes(history),
        numbers=table(
            f"In {_TABLE_SECONDS} seconds",
            ("Seconds ago", *_RATES.values(), *_WRITES.values()),
            _numbers(history),
            "numbers",
        ),
        share=f"{SWITCHED_ON:.0%}",
        switches="".join(_switch(name, mediquo.settings) for name in SWITCHES),
        endpoints=_options(ENDPOINTS),
        outcomes=_options(SCRIPTED),
        scripted=escape(_scripted(mediquo.faults.scripted())),
        upserts=table("Upserts", _HEAD, _latest(upserts), "upserts"),
        others=table("Reads and logins", _HEAD, _latest(others), "others"),
        counters=table("Counters", ("Counter", "Value"), _flat(totals), "counters"),
        settings=table(
            "Settings", ("Setting", "Value", "Meaning"), _meanings(mediquo.settings), "settings"
        ),
    )


def _rates(history: History, settings: Settings) -> str:
    """Draw the requests; the limit holds for each endpoint."""
    lines = [Line(name, label, history.per_second(name)) for name, label in _RATES.items()]
    limit = round(settings.requests_per_minute / settings.minute, 2)
    return line_chart("rates", "Requests a second, by kind, and the limit of each", lines, limit)


def _writes(history: History) -> str:
    lines = [Line(name, label, history.totals(name)) for name, label in _WRITES.items()]
    return line_chart("writes", "Patients in accepted writes, and how many are visible", lines)


def _numbers(history: History) -> Iterator[tuple[object, ...]]:
    rates = [history.per_second(name) for name in _RATES]
    writes = [history.totals(name) for name in _WRITES]
    for start in range(SECONDS - _TABLE_SECONDS, -1, -_TABLE_SECONDS):
        part = slice(start, start + _TABLE_SECONDS)
        ago = f"{SECONDS - start} to {SECONDS - start - _TABLE_SECONDS}"
        yield ago, *(sum(line[part]) for line in rates), *(line[part][-1] for line in writes)


def _switch(name: str, settings: Settings) -> str:
    is_on = "true" if getattr(settings, name) else "false"
    return (
        f'<button type="button" role="switch" id="{name}" aria-checked="{is_on}" '
        f'data-on="{SWITCHED_ON}"><span class="knob" aria-hidden="true"></span>'
        f"{escape(SWITCHES[name])}</button>"
    )


def _options(values: Iterable[str]) -> str:
    return "".join(f"<option>{escape(value)}</option>" for value in values)


def _scripted(scripts: dict[str, list[str]]) -> str:
    parts = [f"{name}: {', '.join(script[:10])}" for name, script in scripts.items() if script]
    return f"Scheduled faults: {'; '.join(parts)}." if parts else "No fault is scheduled."


def _latest(entries: list[Entry]) -> Iterator[tuple[object, ...]]:
    return map(_cells, reversed(entries[-MAX_REQUESTS:]))


def _flat(totals: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in totals.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, value


def _cells(entry: Entry) -> tuple[object, ...]:
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
