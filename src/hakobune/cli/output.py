"""Results for programs: whole, as JSON or YAML."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

# What YAML reads as a text without quotes, and as nothing else.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")
_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))


def add_format(parser: argparse.ArgumentParser, *, default: str = "table") -> None:
    """Declare `--format table|json|yaml`."""
    choices = ("table", "json", "yaml") if default == "table" else ("yaml", "json")
    parser.add_argument(
        "--format",
        choices=choices,
        default=default,
        help=f"how the result is printed (default: {default})",
    )


def print_document(value: Any, kind: str, stream: TextIO) -> None:
    """Print *value* as `json` or `yaml`."""
    if kind == "json":
        print_json(value, stream)
        return
    for line in yaml_lines(value):
        print(line, file=stream)


def print_json(value: Any, stream: TextIO) -> None:
    """Print one JSON document, indented, keys in their own order."""
    print(json.dumps(value, indent=2, ensure_ascii=False), file=stream)


def yaml_lines(value: Any) -> Iterator[str]:
    """The lines of a YAML document of JSON's types: block style, keys in their own order."""
    match value:
        case {}:
            for key, item in value.items():
                yield from _entry(f"{_scalar(key)}:", item, indent="  ")
            if not value:
                yield "{}"
        case list():
            for item in value:
                yield from _item(item)
            if not value:
                yield "[]"
        case _:
            yield _scalar(value)


def _entry(key: str, item: Any, *, indent: str) -> Iterator[str]:
    if not item or not isinstance(item, dict | list):
        yield f"{key} {next(iter(yaml_lines(item)))}"
        return
    yield key
    margin = "" if isinstance(item, list) else indent
    for line in yaml_lines(item):
        yield margin + line


def _item(item: Any) -> Iterator[str]:
    head, *rest = yaml_lines(item)
    yield f"- {head}"
    for line in rest:
        yield f"  {line}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
