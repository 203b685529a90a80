"""The page at `/docs`: all endpoints with bodies and errors, from the application's own description."""

import json
import re
import shlex
from collections.abc import Iterator
from html import escape
from typing import Any

from airflow_provider_mediquo.sandbox.web.pages import table

Described = dict[str, Any]

ERRORS = (
    (400, "The body is not JSON, or its Content-Type does not say so"),
    (401, "One of the keys is missing or wrong"),
    (404, "There is no such patient, or it is not visible yet. As a web page: the path is wrong"),
    (422, "Some patient breaks a rule, or there are too many. Nothing is written"),
    (429, "Too many requests in this minute. Retry-After says how many seconds to wait"),
    ("500, 503", "A fault that was switched on, as JSON"),
    ("502, 504", "The same, as the web page of a gateway"),
)
HEADERS = (
    ("X-API-Key, X-Secret-Key", "request", "Both keys; the control API needs none"),
    ("Content-Type", "request", "application/json, if there is a body"),
    ("X-RateLimit-Limit", "response", "Requests that are allowed in a minute, per endpoint"),
    ("X-RateLimit-Remaining", "response", "How many of them are left"),
    ("Retry-After", "response", "With a 429: when the next request is allowed"),
)
PAGE = """<header>
<h1>mediQuo sandbox: API</h1>
<p><a href="/">Dashboard</a> · <a href="/openapi.json">openapi.json</a></p>
</header>
<section aria-labelledby="general-heading">
<h2 id="general-heading">All endpoints</h2>
{headers}
{errors}
</section>
{endpoints}
<section aria-labelledby="settings-heading">
<h2 id="settings-heading">Settings</h2>
{settings}
</section>"""
ENDPOINT = """<section aria-labelledby="{key}">
<h2 id="{key}"><code>{method} {path}</code></h2>
{text}
<p>For example:</p>
<pre tabindex="0"><code>{command}</code></pre>
</section>"""


def render(described: Described, base_url: str) -> str:
    """Return the page's body.

    :param described: the application as OpenAPI.
    """
    settings = described["components"]["schemas"]["Settings"]["properties"]
    return PAGE.format(
        headers=table("Headers", ("Header", "Of the", "Meaning"), HEADERS),
        errors=table("Errors of mediQuo's endpoints", ("Status", "Meaning"), ERRORS),
        endpoints="\n".join(_endpoints(described, base_url)),
        settings=table(
            "Settings", ("Setting", "Meaning", "Default"), map(_setting, settings.items())
        ),
    )


def _setting(setting: tuple[str, Described]) -> tuple[object, ...]:
    name, described = setting
    return name, described["description"], json.dumps(described.get("default"))


def _endpoints(described: Described, base_url: str) -> Iterator[str]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield ENDPOINT.format(
                key=escape(operation["operationId"]),
                method=method.upper(),
                path=escape(path),
                text=_as_html(operation.get("description", "")),
                command=escape(_command(described, base_url, method.upper(), path, operation)),
            )


def _command(
    described: Described, base_url: str, method: str, path: str, operation: Described
) -> str:
    """Return an endpoint's example for a shell."""
    home = base_url.removesuffix("/v1")
    parts = [f"curl -X {method} {shlex.quote(home + path.replace('{code}', 'jane-unique-id'))}"]
    if "security" in operation:
        parts.append('-H "X-API-Key: $API_KEY" -H "X-Secret-Key: $SECRET_KEY"')
    if body := operation.get("requestBody"):
        example = json.dumps(_example(described, body["content"]["application/json"]), indent=2)
        parts += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(example)}"]
    return " \\\n  ".join(parts)


def _example(described: Described, content: Described) -> Any:
    """Return the example of a body: its own, or one made of its fields' examples."""
    if "example" in content:
        return content["example"]
    schema = content["schema"]
    if "examples" in schema:
        return schema["examples"][0]
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return _example(described, {"schema": described["components"]["schemas"][name]})
    return {name: field["examples"][0] for name, field in schema["properties"].items()}


def _as_html(text: str) -> str:
    """Return the little Markdown that descriptions have: paragraphs, lists, code."""
    parts = []
    for block in text.strip().split("\n\n"):
        shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(block))
        if shown.startswith("- "):
            items = "".join(f"<li>{item}</li>" for item in shown[2:].split("\n- "))
            parts.append(f"<ul>{items}</ul>")
        else:
            parts.append(f"<p>{shown}</p>")
    return "\n".join(parts)
