"""What the sandbox's pages have in common: the frame, tables, and a strict security policy."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from starlette.responses import HTMLResponse, Response

ASSETS = Path(__file__).with_name("assets")
MEDIA_TYPES = {"sandbox.css": "text/css", "sandbox.js": "text/javascript"}
# Nothing from elsewhere, and nothing inline: the pages work without a network.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/assets/sandbox.css">
<title>{title}</title>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def page(title: str, body: str) -> Response:
    """Return a page; its body is HTML."""
    return HTMLResponse(FRAME.format(title=escape(title), body=body), headers=HEADERS)


def asset(name: str) -> Response:
    """Return the style sheet or the script."""
    content = (ASSETS / name).read_text(encoding="utf-8")
    return Response(content, headers=HEADERS, media_type=MEDIA_TYPES[name])


def table(
    caption: str, head: Iterable[object], rows: Iterable[Iterable[object]], key: str = ""
) -> str:
    """Return a table.

    :param key: of its rows, if the script is to replace them.
    """
    live = f' id="{key}" data-live' if key else ""
    names = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in head)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{names}</tr></thead>\n"
        f"<tbody{live}>{''.join(map(_row, rows))}</tbody></table></div>"
    )


def _row(cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>\n"
