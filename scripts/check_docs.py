"""Checks that the documentation is true; `--write` makes the generated reference pages again.

- every `hako …` and `./hako …` line of a shell block parses with the real command line;
- every local link leads somewhere;
- so do the examples of `--help`;
- ARCHITECTURE.md names every room, and only modules that exist;
- docs/reference/{commands,settings,modules}.md are what the code says.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from hakobune.cli.examples import EXAMPLES
from hakobune.cli.main import COMMANDS, Parser
from hakobune.errors import UsageError
from hakobune.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def main() -> int:
    os.environ["COLUMNS"] = "100"  # argparse wraps at the terminal's width
    pages = {
        REFERENCE / "commands.md": commands_page(),
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "modules.md": modules_page(),
    }
    if "--write" in sys.argv[1:]:
        for path, text in pages.items():
            path.write_text(text)
        return 0
    problems = [
        *(f"{path.relative_to(ROOT)} is stale: scripts/check_docs.py --write" for path, text in pages.items()
          if not path.exists() or path.read_text() != text),
        *(problem for document in documents() for problem in check_document(document)),
        *check_architecture(),
        *check_examples(),
    ]  # fmt: skip
    print("\n".join(problems) or f"{len(list(documents()))} documents are true")
    return 1 if problems else 0


def documents() -> Iterator[Path]:
    yield from (ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def check_document(path: Path) -> Iterator[str]:
    text = path.read_text()
    name = path.relative_to(ROOT)
    for target in LINK.findall(text):
        if not (path.parent / target).exists():
            yield f"{name}: the link {target} leads nowhere"
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*|sudo", words[0]):
                words.pop(0)
            if words and words[0] in ("hako", "./hako") and (problem := check_command(words[1:])):
                yield f"{name}: `{line.strip()}`: {problem}"


def check_command(words: list[str]) -> str | None:
    words = words[: next((i for i, w in enumerate(words) if w in ("|", ">", "&&", "&", ";")), None)]
    if not words or words[0].startswith("-"):
        return None
    parser = parsers().get(words[0])
    if parser is None:
        return f"there is no command {words[0]!r}"
    if "--help" in words:
        return None
    try:
        parser.parse_args(words[1:])
    except UsageError as error:
        return error.why or error.what
    return None


def parsers() -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        parser = Parser(prog=f"hako {command.name}", description=command.help)
        importlib.import_module(command.module).configure(parser)
        found[command.name] = parser
    return found


def check_architecture() -> Iterator[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    package = ROOT / "src" / "hakobune"
    for room in sorted(path.name for path in package.iterdir() if (path / "__init__.py").exists()):
        if f"`{room}`" not in text:
            yield f"ARCHITECTURE.md does not name the room {room}"
    for module in re.findall(r"`([a-z_]+/[a-z_]+\.py)`", text):
        if not (package / module).exists():
            yield f"ARCHITECTURE.md names {module}, which is not there"


def modules_page() -> str:
    """Each module with the first sentence of its docstring."""
    package = ROOT / "src" / "hakobune"
    lines = ["# Modules", "", "Made from the code by `scripts/check_docs.py --write`."]
    room = ""
    for path in sorted(package.rglob("*.py"), key=lambda p: (p.parent.as_posix(), p.name)):
        if path.name == "__init__.py" or "migrations" in path.parts:
            continue
        if path.parent.name != room:
            room = path.parent.name
            lines += ["", f"## {room}", ""]
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        summary = docstring.partition("\n")[0]
        lines.append(f"- `{path.relative_to(package)}`: {summary}")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    parts = ["# Commands", "", "Made from the code by `scripts/check_docs.py --write`."]
    for name, parser in parsers().items():
        parts += ["", f"## hako {name}", "", "```text", parser.format_help().rstrip(), "```"]
        for child in _below(parser):
            parts += ["", f"### {child.prog}", "", "```text", child.format_help().rstrip(), "```"]
    return "\n".join(parts) + "\n"


def _below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command below a command, groups before what they hold."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from _below(child)


def check_examples() -> Iterator[str]:
    """The examples of `--help` parse, and are of commands that there are."""
    known = {
        command
        for top in parsers().values()
        for command in (top.prog, *(p.prog for p in _below(top)))
    }
    for command, examples in EXAMPLES.items():
        if f"hako {command}" not in known:
            yield f"cli/examples.py: there is no command {command!r}"
        for example in examples:
            if problem := check_command(shlex.split(example, comments=True)):
                yield f"cli/examples.py: `{example}`: {problem}"


def settings_page() -> str:
    rows = [f"| `{s.variable}` | {s.meaning} | {s.default} |" for s in SETTINGS]
    return "\n".join(
        [
            "# Settings",
            "",
            "Made from the code by `scripts/check_docs.py --write`. Each is an environment variable.",
            "",
            "| variable | meaning | default |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
