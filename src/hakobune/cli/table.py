"""Results for people and for programs: a table, JSON, or the resource as YAML-like lines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, TextIO


def add_format(parser: argparse.ArgumentParser) -> None:
    """Declare `--format table|json`."""
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="how the result is printed (default: table)",
    )


def print_json(value: Any, stream: TextIO) -> None:
    """Print one JSON document, indented, keys in their own order."""
    print(json.dumps(value, indent=2, ensure_ascii=False), file=stream)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """Print columns as wide as their widest cell; nothing but the header when there is no row."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), file=stream)
