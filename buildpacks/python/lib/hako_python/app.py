"""What is done to the app's own folder: its bytecode, and Django's static files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hako_python import bytecode
from hako_python.layers import Layer
from hako_python.report import BuildpackError, say
from hako_python.scan import django_package


def compile_app(root: Path, kept: Layer, python: Path) -> None:
    """Put checked-hash bytecode beside the app's modules, from the last build where the source is the same.

    The source copy brings no bytecode along, and compiling a thousand unchanged modules takes a second.
    """
    kept.path.mkdir(exist_ok=True)
    used = set()
    count = 0
    for source in bytecode.sources(root):
        data = source.read_bytes()
        name = str(source.relative_to(root)).replace(os.sep, "\\") + "c"
        used.add(name)
        compiled = _kept_bytecode(kept.path / name, data)
        if compiled is None:
            compiled = bytecode.compile_source(source, data)
            if compiled is None:
                used.discard(name)
                continue
            count += 1
            (kept.path / name).write_bytes(compiled)
        bytecode.write_bytecode(source, compiled)
    for entry in os.scandir(kept.path):
        if entry.name not in used:
            os.unlink(entry.path)
    kept.write({})
    if count:
        say(f"app: {count} of {len(used)} modules compiled")


def collect_static(
    root: Path, python: Path, packages: Sequence[str], env: Mapping[str, str]
) -> None:
    """Run Django's collectstatic where the settings have a STATIC_ROOT.

    Raises:
        BuildpackError: it failed; an app without its static files would start and look broken.
    """
    package = django_package(root)
    if not package or env.get("DISABLE_COLLECTSTATIC", "") not in ("", "0"):
        return
    if not any(p.lower().startswith("django==") for p in packages):
        return
    if not _has_static_root(root / package):
        return
    import subprocess

    answer = subprocess.run(
        [str(python), "manage.py", "collectstatic", "--noinput"],
        cwd=root, env={**env, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if answer.returncode:
        for line in (answer.stdout + answer.stderr).splitlines():
            say(f"  {line}")
        last = next((s for s in reversed(answer.stderr.splitlines()) if s.strip()), "")
        raise BuildpackError(
            "Django's collectstatic failed",
            seen=last.strip(),
            fix="make `python manage.py collectstatic` work without secrets, or --env DISABLE_COLLECTSTATIC=1",
        )
    for line in answer.stdout.splitlines():
        if line.strip():
            say(f"collectstatic: {line.strip()}")


def _has_static_root(package: Path) -> bool:
    files = [package / "settings.py", *sorted((package / "settings").glob("*.py"))]
    return any(
        re.search(r"^\s*STATIC_ROOT\s*=", f.read_text(errors="replace"), re.M)
        for f in files
        if f.is_file()
    )


def _kept_bytecode(path: Path, source: bytes) -> bytes | None:
    """The bytecode of the last build, if it is of these very bytes."""
    try:
        compiled = path.read_bytes()
    except OSError:
        return None
    return compiled if bytecode.is_bytecode_of(compiled, source) else None
