"""The page around a report: one file, which asks no network for anything."""

import base64
import hashlib
from importlib.resources import files

from flowscope.report.markup import text


def page(title: str, subtitle: str, body: str) -> str:
    """A whole HTML page.

    Script and style are inlined, and a content security policy allows those two texts alone, by their hashes: even a
    name that slipped through unescaped could neither run nor load anything.

    Args:
        title: of the page, not escaped yet.
        subtitle: one line under it, not escaped yet.
        body: HTML.
    """
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1>{text(title)}</h1><p>{text(subtitle)}</p></header>
<main id="content">
{body}
</main>
<footer><p>Written by flowscope. Time t runs from 0, noise, to 1, data. The two stages are arXiv 2512.02826's.</p>
</footer>
<script>{script}</script>
</body>
</html>
"""


def _resource(name: str) -> str:
    return files("flowscope.report").joinpath(name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
