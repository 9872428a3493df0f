"""bin/build: processes as they are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hako_procfile.processes import Command, parse_procfile, to_command


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Write `launch.toml`; fails if the Procfile names no process."""
    texts, complaints = read_processes(Path.cwd(), env)
    for complaint in complaints:
        print(f"warning: {complaint}", file=sys.stderr)
    if not texts:
        print("error: the Procfile names no process", file=sys.stderr)
        print("  fix: write a line like `web: python server.py`", file=sys.stderr)
        return 1
    if "web" not in texts:
        print("warning: no `web` process: the image has no default process", file=sys.stderr)
    commands = {name: to_command(text) for name, text in texts.items()}
    for name, text in texts.items():
        shell = " (by bash)" if commands[name].needs_shell else ""
        print(f"{name}: {text}{shell}")
    folder = Path(env.get("CNB_LAYERS_DIR") or argv[1])
    (folder / "launch.toml").write_text(launch_toml(commands))
    return 0


def read_processes(root: Path, env: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Process types with their text; GOOGLE_ENTRYPOINT is the web process, whatever the Procfile says."""
    texts: dict[str, str] = {}
    complaints: tuple[str, ...] = ()
    if (root / "Procfile").is_file():
        texts, complaints = parse_procfile((root / "Procfile").read_text(errors="replace"))
    if entrypoint := env.get("GOOGLE_ENTRYPOINT", "").strip():
        texts["web"] = entrypoint
    return texts, complaints


def launch_toml(commands: Mapping[str, Command]) -> str:
    """The processes, and which of the run image's programs they need."""
    lines = []
    for name, command in commands.items():
        lines += ["[[processes]]", f"type = {json.dumps(name)}"]
        # A JSON list of strings is a TOML array, except that TOML also wants DEL escaped.
        words = json.dumps(list(command.argv), ensure_ascii=False).replace("\x7f", "\\u007f")
        lines += [f"command = {words}"]
        if name == "web":
            lines.append("default = true")
    if any(command.needs_shell for command in commands.values()):
        needs = json.dumps({"commands": ["bash"], "libraries": []})
        lines += [
            "[[labels]]",
            'key = "com.hakobune.run-image.needs.procfile"',
            f"value = {json.dumps(needs)}",
        ]
    return "\n".join(lines) + "\n"
