"""The page around a report: Jinja2 templates, rendered to one file that loads nothing from a network.

The English of the pages is in two places: fixed text in `templates/`, sentences that depend on numbers in `prose.py`.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flowscope.report.plain_text import without_paths
from flowscope.studies.bench.finding import split_answer, verdict_in_words


def render(template: str, title: str, subtitle: str, **values: Any) -> str:
    """A whole HTML page.

    Script and style are inlined, and a content security policy allows those two texts alone, by their hashes: even a
    name that slipped through unescaped could neither run nor load anything.

    Args:
        template: name of a file in `templates/` that extends `base.html.j2`.
        title: title and main heading of the page, unescaped.
        subtitle: one line under the heading, unescaped.
        values: what the template prints. Text is escaped where it is printed.
    """
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    frame = {"title": title, "subtitle": subtitle, "policy": policy, "style": style, "script": script}
    return environment().get_template(template).render(**frame, **values)


@cache
def environment() -> Environment:
    """The environment of the templates: every text is escaped, and an undefined value is an error."""
    made = Environment(
        loader=PackageLoader("flowscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["without_paths"] = without_paths
    made.filters["split_answer"] = split_answer
    made.filters["verdict_in_words"] = verdict_in_words
    made.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return made


def _resource(name: str) -> str:
    return files("flowscope.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
