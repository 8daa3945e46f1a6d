"""The documentation is true of the code: its blocks run, its links lead somewhere, its equations and tests exist."""

import io
import re
import shlex
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from flowscope.cli import main
from flowscope.data.load import READERS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "src" / "flowscope").rglob("*.py"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COSTLY = ("stages", "sweep", "train")  # commands that are tried with --dry-run: sources and options are still checked


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def runnable(page: Path) -> list[tuple[str, str]]:
    """Python, and the flowscope commands among shell lines, in order."""
    found = []
    for language, text in blocks(page):
        if language == "python":
            found.append(("python", text))
        if language == "sh":
            found += [("flowscope", line) for line in text.splitlines() if line.startswith("flowscope ")]
    return found


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=ids)
def test_blocks_run_one_after_the_other(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    readers, names = dict(READERS), {"__name__": "documentation"}
    for kind, text in runnable(page):
        if kind == "python":
            exec(compile(text, str(page), "exec"), names)
            continue
        words = shlex.split(text, comments=True)[1:]
        dry = ["--dry-run"] if words[0] in COSTLY and "--dry-run" not in words else []
        code = main(words + dry)
        assert code == 0, f"{text}: {capsys.readouterr().err}"
    assert readers == READERS  # a page leaves nothing behind


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def without_blocks(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", without_blocks(file), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_tests_and_targets_that_are_named_exist(page: Path) -> None:
    words = re.findall(r"`([^`\n]+)`", without_blocks(page))
    roots = (ROOT, ROOT / "src" / "flowscope")
    for word in words:
        if re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|md|toml|css|js)", word):
            assert any((root / word).exists() for root in roots), word
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for word in words:
        if re.fullmatch(r"test_\w+", word):
            assert f"def {word}(" in tests, word
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        if target := re.fullmatch(r"make ([a-z-]+)", word):
            assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), word


@pytest.mark.slow
def test_equations_of_the_sources_are_derived() -> None:
    tags = re.findall(r"\\tag\{(\w+)\}", (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8"))
    assert [tag for tag, count in Counter(tags).items() if count > 1] == []
    defined: list[str] = []
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        defined += re.findall(r" {3,}\((\d+)\)$", text, re.MULTILINE)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT or token.string.lstrip("rf").startswith('"""'):
                named = re.findall(r"(?<![\w)\]])\((\d+)\)", token.string)
                assert set(named) <= set(tags), f"{ids(source)}: {named}"
    assert sorted(defined, key=int) == [str(n) for n in range(1, len(defined) + 1)]
    assert set(defined) == {tag for tag in tags if tag.isdecimal()}


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert [page.name for page in pages if f"(docs/{page.name})" not in readme] == []
