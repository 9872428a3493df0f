"""The interpreter as a launch layer, made from the distribution's own packages.

The layer holds what the app needs on a run image without Python: the program, the standard library with
checked-hash bytecode, and those shared libraries that run images do not all have.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hako_python import bytecode
from hako_python.layers import Layer, digest_of_file
from hako_python.report import BuildpackError

LAYOUT = "1"  # raised when this module makes the layer differently from the same packages
LEFT_OUT = (
    "test",
    "idlelib",
    "turtledemo",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "__pycache__",
)
LEFT_OUT_EXTENSIONS = ("_test", "_ctypes_test", "_xxtestfuzz", "xxlimited", "xxsubtype", "_tkinter")


def interpreter_inputs(release: tuple[int, ...]) -> dict[str, str]:
    """What the layer is made of, by name."""
    return {
        "python": ".".join(map(str, release)),
        "package": _package_contents(release),
        "architecture": os.uname().machine,
        "layout": LAYOUT,
    }


def make_interpreter(layer: Layer, release: tuple[int, ...]) -> None:
    """Fill *layer* with the interpreter of *release*; what an older build left in it goes away."""
    import shutil

    from hako_python import elf

    name = f"python{release[0]}.{release[1]}"
    program, library = Path("/usr/bin", name), Path("/usr/lib", name)
    if not (program.is_file() and (library / "os.py").is_file()):
        raise BuildpackError(
            f"the builder has no {name}",
            seen=f"{program} or {library} is missing",
            fix=f"add the packages {name} and lib{name}-stdlib to the build image",
        )
    _empty(layer.path)
    (layer.path / "bin").mkdir(parents=True)
    shutil.copy2(program, layer.path / "bin" / name)
    for link in ("python3", "python"):
        (layer.path / "bin" / link).symlink_to(name)
    target = layer.path / "lib" / name
    _copy_library(library, target)
    objects = [layer.path / "bin" / name, *elf.shared_objects([target])]
    needed = {n for o in objects if (e := elf.read_elf(o)) for n in e.needed}
    for library_name, path in elf.resolve(needed, elf.system_libraries()).items():
        shutil.copy2(path.resolve(), layer.path / "lib" / library_name)
    bytecode.compile_tree([target])


def running_release() -> tuple[int, ...]:
    """The release of the build image's interpreter, which runs this buildpack."""
    return tuple(sys.version_info[:3])


def _copy_library(library: Path, target: Path) -> None:
    """Copy the standard library, with the distribution's bytecode where that is checked-hash already."""
    import shutil

    for folder, folders, files in os.walk(library):
        here = Path(folder)
        folders[:] = sorted(f for f in folders if not _is_left_out(f) or f == "__pycache__")
        into = target / here.relative_to(library)
        for file in sorted(files):
            source = here / file
            if file.startswith(LEFT_OUT_EXTENSIONS) or not source.exists():
                continue
            if here.name == "__pycache__" and not _is_checked_hash(source):
                continue
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into / file)


def _is_left_out(folder: str) -> bool:
    return folder in LEFT_OUT or folder.startswith("config-")


def _is_checked_hash(path: Path) -> bool:
    with open(path, "rb") as file:
        return path.suffix == ".pyc" and file.read(8)[4:] == bytecode.CHECKED_HASH


def _package_contents(release: tuple[int, ...]) -> str:
    """What names the package's contents: a security update changes it while `3.13.5` stays."""
    pattern = f"libpython{release[0]}.{release[1]}-stdlib*.md5sums"
    for listing in sorted(Path("/var/lib/dpkg/info").glob(pattern)):
        return digest_of_file(listing)
    return "unpackaged"


def _empty(folder: Path) -> None:
    import shutil

    if folder.exists():
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    folder.mkdir(parents=True, exist_ok=True)
