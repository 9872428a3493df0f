"""What ELF files need, read without running them."""

import sys
from pathlib import Path

from hako_python.elf import missing_libraries, read_elf, resolve, system_libraries


def test_the_interpreter_needs_the_c_library() -> None:
    elf = read_elf(Path(sys.executable).resolve())

    assert elf is not None
    assert "libc.so.6" in elf.needed


def test_what_is_no_elf_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "broken").write_bytes(b"\x7fELF\x02\x01" + b"\0" * 40)
    (tmp_path / "empty").touch()

    assert [read_elf(tmp_path / n) for n in ("script", "broken", "empty", "gone")] == [None] * 4


def test_a_library_that_nobody_has_is_named_with_who_needs_it() -> None:
    program = Path(sys.executable).resolve()

    missing = missing_libraries([program], frozenset())

    assert missing["libc.so.6"] == (program,)
    assert "libc.so.6" not in missing_libraries([program], frozenset({"libc.so.6"}))


def test_libraries_come_with_what_they_need_in_turn() -> None:
    available = system_libraries()
    name = next(
        n for n in ("libsqlite3.so.0", "libreadline.so.8", "liblzma.so.5") if n in available
    )

    found = resolve([name], available)

    assert name in found
    assert "libc.so.6" not in found  # every run image has it
