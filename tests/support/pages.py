"""Pages of reports as tests read them, and reports without drawn figures."""

from html.parser import HTMLParser

import pytest


class Page(HTMLParser):
    """A page as a browser's parser sees it: elements, the text people read, and what scripts hold."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: dict[str, str] = {}
        self.words: list[str] = []
        self._inside: str | None = None
        self.feed(source)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag in ("script", "style"):
            self._inside = attributes.get("id", tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.words.append(data)
        else:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Blank figures in place of drawn ones: they have tests of their own."""
    for name in ("stages", "sweep"):
        module = f"flowscope.report.{name}"
        patch.setattr(f"{module}.{name.removesuffix('s')}_figure", lambda *_: None)
        patch.setattr(f"{module}.to_svg", lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'/>")
        patch.setattr(f"{module}.to_png", lambda _: b"\x89PNG")
