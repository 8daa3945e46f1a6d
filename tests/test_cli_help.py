"""The help of the commands: short, in sections, whole at any width; and how options in groups reach a command."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from flowscope.cli import main, parse
from flowscope.cli.app import app
from flowscope.cli.grouped import Sections, Text, grouped
from flowscope.errors import InputError

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
OWN = {
    "--help",
    "--boundary",
    "--model",
    "--steps",
    "--batch",
    "--n",
    "--class",
    "--interval",
    "--quick",
    "--device",
    "--held-out",
}


def options_of(name: str) -> list[Any]:
    return [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "option"]


def words(text: str) -> str:
    """The help of an option without the default that stands behind it."""
    return re.sub(r"  \[.*", "", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_in_ten_words_what_it_does(name: str) -> None:
    for option in options_of(name):
        assert len(words(option.help).split()) <= 10, option.help
        assert re.fullmatch(r"[A-Z].*\.", words(option.help)), option.help


def test_an_option_that_commands_share_says_the_same_in_each() -> None:
    said: dict[str, set[str]] = {}
    for name in COMMANDS:
        for option in options_of(name):
            said.setdefault(option.opts[0], set()).add(words(option.help))
    shared = {option: texts for option, texts in said.items() if option not in OWN}
    assert {option: texts for option, texts in shared.items() if len(texts) > 1} == {}
    assert {"--out", "--memory", "--seed", "--path", "--resize", "--resume"} <= shared.keys()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_is_whole_at_any_width(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.split())
    for option in options_of(name):
        assert option.opts[0] in joined and " ".join(option.help.split()) in joined
        assert f"\n{option.rich_help_panel or 'Options'}:\n" in text
    assert not re.search(r"[a-z]\.\.\.", text)  # no sentence is cut off
    assert ("mixture:N=1000,D=64,modes=10" in text) == (name != "sample")


def test_the_first_page_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +[A-Z].*\.$", text, re.MULTILINE) for name in COMMANDS)
    assert "--version" in text


def test_the_help_of_study_lists_the_studies_with_their_questions(capsys: pytest.CaptureFixture[str]) -> None:
    from flowscope.studies.catalogue import CATALOGUE

    assert main(["study", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{k} +{re.escape(v.question)}$", text, re.MULTILINE) for k, v in CATALOGUE.items())


@dataclass(frozen=True)
class Colour:
    SECTION = "Colour"
    red: Annotated[int, typer.Option(help="Mix this much red."), Text(parse.whole(0))] = 1
    dark: Annotated[bool, typer.Option("--dark", help="Darken it.")] = False


@dataclass(frozen=True)
class Shade(Colour):
    light: Annotated[int | None, typer.Option(help="Lighten it."), Text(parse.whole(2))] = None


def called(*arguments: str) -> Any:
    """What a command of three parameters, two of them groups, is called with."""
    seen: list[Any] = []

    @grouped
    def paint(
        name: Annotated[str, typer.Argument()], first: Shade, width: Annotated[float, typer.Option()] = 0.5
    ) -> None:
        """Paint."""
        seen.append((name, first, width))

    own = typer.Typer(rich_markup_mode=None, add_completion=False)
    own.command(cls=Sections)(paint)
    get_command(own).main(args=list(arguments), standalone_mode=False)
    return seen[0] if seen else None


def test_a_command_gets_its_groups_as_objects() -> None:
    assert called("wall") == ("wall", Shade(1, False, None), 0.5)
    given = called("wall", "--light", "3", "--red", "0", "--dark", "--width", "2")
    assert given == ("wall", Shade(0, True, 3), 2.0)


def test_what_is_parsed_here_is_refused_in_the_words_of_here() -> None:
    with pytest.raises(InputError, match="--light is '1'; expected a whole number of at least 2"):
        called("wall", "--light", "1")


def test_a_group_is_a_section_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    called("--help")
    text = capsys.readouterr().out
    sections = dict(re.findall(r"^(\w+):\n((?:  .*\n)+)", text, re.MULTILINE))
    assert set(sections) == {"Arguments", "Colour", "Options"}
    assert re.findall(r"--\w+", sections["Colour"]) == ["--red", "--dark", "--light"]
    assert re.findall(r"--\w+", sections["Options"]) == ["--width", "--help"]
    assert "[default: 1]" in sections["Colour"]
