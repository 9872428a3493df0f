"""What an ELF file needs from others (DT_NEEDED, DT_RUNPATH), read without running it."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

MACHINES = {"amd64": 62, "arm64": 183}
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29

# Every run image has these: glibc, the compiler's runtimes, OpenSSL and what OpenSSL needs. They come from
# the run image, so that a rebase brings their security fixes.
RUN_IMAGE_LIBRARIES = frozenset(
    [
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
        "libc.so.6",
        "libm.so.6",
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
        "libresolv.so.2",
        "libutil.so.1",
        "libnsl.so.1",
        "libanl.so.1",
        "libBrokenLocale.so.1",
        "libmvec.so.1",
        "libthread_db.so.1",
        "libgcc_s.so.1",
        "libstdc++.so.6",
        "libssl.so.3",
        "libcrypto.so.3",
        "libz.so.1",
        "libzstd.so.1",
    ]
)


class Elf(NamedTuple):
    """The dynamic section of one file."""

    machine: int
    soname: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()  # RUNPATH or RPATH entries


def read_elf(path: Path) -> Elf | None:
    """The dynamic section of *path*, or `None` if it is no 64-bit little-endian ELF file."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"\x7fELF":
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(data)
    except (OSError, struct.error, ValueError, IndexError):
        return None


def shared_objects(roots: Iterable[Path]) -> Iterator[Path]:
    """Files below *roots* that a program may load: `*.so`, `*.so.6`."""
    for root in roots:
        for folder, _, files in os.walk(root):
            for name in sorted(files):
                if name.endswith(".so") or ".so." in name:
                    yield Path(folder, name)


def missing_libraries(
    objects: Iterable[Path], present: frozenset[str]
) -> dict[str, tuple[Path, ...]]:
    """Library names that *objects* need and nobody has, with who needs them.

    A library counts as present if *present* names it, or if it lies in the file's own search path, or
    beside the file, or has been loaded by name before: then one of *objects* is it.
    """
    paths = tuple(objects)
    names = {path.name for path in paths} | present
    needed: dict[str, list[Path]] = {}
    for path in paths:
        elf = read_elf(path)
        if elf is None:
            continue
        for library in elf.needed:
            if library not in names and not _in_search_path(path, elf, library):
                needed.setdefault(library, []).append(path)
    return {library: tuple(users) for library, users in sorted(needed.items())}


def resolve(names: Iterable[str], available: Mapping[str, Path]) -> dict[str, Path]:
    """*names* and everything they need in turn, as far as *available* has it, without what a run image has."""
    found: dict[str, Path] = {}
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in found or name in RUN_IMAGE_LIBRARIES or name not in available:
            continue
        found[name] = available[name]
        elf = read_elf(available[name])
        queue.extend(elf.needed if elf else ())
    return dict(sorted(found.items()))


def system_libraries(root: Path = Path("/")) -> dict[str, Path]:
    """Libraries where the dynamic loader of a Debian system looks, by file name."""
    folders = [root / "usr/lib" / f"{m}-linux-gnu" for m in ("x86_64", "aarch64")]
    folders.append(root / "usr/local/lib")
    return {
        entry.name: Path(entry.path)
        for folder in folders
        if folder.is_dir()
        for entry in os.scandir(folder)
        if ".so" in entry.name and entry.is_file()
    }


def _in_search_path(path: Path, elf: Elf, library: str) -> bool:
    for entry in elf.search:
        folder = entry.replace("$ORIGIN", str(path.parent)).replace("${ORIGIN}", str(path.parent))
        if os.path.exists(os.path.join(folder, library)):
            return True
    return False


def _parse(data: mmap.mmap) -> Elf | None:
    if data[4:6] != b"\x02\x01":
        return None
    machine = struct.unpack_from("<H", data, 18)[0]
    table, size, count = _program_headers(data)
    headers = [struct.unpack_from("<IIQQQQQQ", data, table + i * size) for i in range(count)]
    loads = [(h[3], h[2], h[5]) for h in headers if h[0] == PT_LOAD]
    dynamic = next((h for h in headers if h[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return Elf(machine)
    entries = [
        struct.unpack_from("<QQ", data, dynamic[2] + i) for i in range(0, dynamic[5] - 15, 16)
    ]
    strings = _file_offset(next(v for t, v in entries if t == DT_STRTAB), loads)

    def text(offset: int) -> str:
        start = strings + offset
        return data[start : data.find(b"\0", start)].decode()

    search = [p for t, v in entries if t in (DT_RUNPATH, DT_RPATH) for p in text(v).split(":")]
    return Elf(
        machine,
        next((text(v) for t, v in entries if t == DT_SONAME), ""),
        tuple(text(v) for t, v in entries if t == DT_NEEDED),
        tuple(search),
    )


def _program_headers(data: mmap.mmap) -> tuple[int, int, int]:
    offset = struct.unpack_from("<Q", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 54)
    return offset, size, count


def _file_offset(address: int, loads: Iterable[tuple[int, int, int]]) -> int:
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError("an address lies in no segment")
