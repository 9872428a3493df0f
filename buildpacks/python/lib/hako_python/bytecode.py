"""Checked-hash bytecode (PEP 552): right at any file time, also at an image's 1980.

A timestamp `.pyc` holds its source's time, which an exporter resets: every module would be compiled
again at every start. A checked hash stays valid then, and stays right when somebody edits in place.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

CHECKED_HASH = b"\x03\x00\x00\x00"
SKIPPED = frozenset(("__pycache__", ".git", ".venv", "venv", "node_modules", "bad_pyc"))


def compile_tree(roots: Sequence[Path], *, workers: int | None = None) -> int:
    """Compile what lacks valid bytecode below *roots*; returns how many files were compiled.

    Files that do not parse (templates, code for other versions) are left alone, as pip leaves them.
    """
    stale = [path for root in roots for path in sources(root) if not has_valid_bytecode(path)]
    count = min(workers or len(os.sched_getaffinity(0)), max(1, len(stale) // 20))
    children = [_fork_compiler(stale[i::count]) for i in range(1, count)]
    _compile_all(stale[::count])
    for child in children:
        os.waitpid(child, 0)
    return len(stale)


def sources(root: Path) -> Iterator[Path]:
    """Every `.py` below *root*, where an interpreter would look for modules."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        yield from (Path(folder, f) for f in sorted(files) if f.endswith(".py"))


def has_valid_bytecode(source: Path) -> bool:
    """Whether the bytecode beside *source* is checked-hash and of these very bytes."""
    try:
        with open(cache_path(source), "rb") as file:
            header = file.read(16)
        return is_bytecode_of(header, source.read_bytes())
    except OSError:
        return False


def is_bytecode_of(bytecode: bytes, source: bytes) -> bool:
    """Whether *bytecode* (its first 16 bytes suffice) was compiled from *source* by this interpreter."""
    return bytecode[:16] == _header(source)


def cache_path(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))


def compile_source(source: Path, data: bytes) -> bytes | None:
    """The `.pyc` of *data*, or `None` if it is no Python that this interpreter understands."""
    try:
        code = compile(data, str(source), "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, OverflowError, MemoryError):
        return None
    return _header(data) + marshal.dumps(code)


def _fork_compiler(paths: Sequence[Path]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _compile_all(paths)
    finally:
        os._exit(0)


def _compile_all(paths: Iterable[Path]) -> None:
    import warnings

    warnings.simplefilter("ignore")  # a SyntaxWarning in somebody's package is not news
    for path in paths:
        try:
            data = path.read_bytes()
            if (bytecode := compile_source(path, data)) is not None:
                write_bytecode(path, bytecode)
        except OSError:
            continue


def write_bytecode(source: Path, bytecode: bytes) -> None:
    """Put *bytecode* where the interpreter looks for it."""
    target = cache_path(source)
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    temporary.write_bytes(bytecode)
    temporary.rename(target)


def _header(source: bytes) -> bytes:
    return importlib.util.MAGIC_NUMBER + CHECKED_HASH + importlib.util.source_hash(source)
