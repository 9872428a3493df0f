"""Checked-hash bytecode: valid at any file time, compiled once."""

import os
import subprocess
import sys
from pathlib import Path

from hako_python.app import compile_app
from hako_python.bytecode import cache_path, compile_tree, has_valid_bytecode
from hako_python.layers import Layer


def test_bytecode_is_valid_at_the_1980_date_and_the_interpreter_uses_it(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text("answer = 42\n")
    compile_tree([tmp_path])
    compiled = cache_path(source)
    before = compiled.read_bytes()
    os.utime(source, (315532801, 315532801))
    os.utime(compiled, (315532801, 315532801))

    done = subprocess.run(
        [sys.executable, "-v", "-c", "import shop; print(shop.answer)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "42\n"
    assert f"matches {source}" in done.stderr or f"code object from '{compiled}'" in done.stderr
    assert compiled.read_bytes() == before


def test_a_changed_source_is_compiled_again_and_others_are_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(f"{name} = 1\n")
    compile_tree([tmp_path])
    untouched = cache_path(tmp_path / "a.py").stat().st_ino
    (tmp_path / "b.py").write_text("b = 2\n")
    assert not has_valid_bytecode(tmp_path / "b.py")

    assert compile_tree([tmp_path]) == 1

    assert cache_path(tmp_path / "a.py").stat().st_ino == untouched
    assert has_valid_bytecode(tmp_path / "b.py")


def test_files_that_do_not_parse_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "template.py").write_text("{{ name }} = \n")

    compile_tree([tmp_path])

    assert not cache_path(tmp_path / "template.py").exists()


def test_many_files_are_compiled_by_several_processes(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"m{i}.py").write_text(f"x = {i}\n")

    assert compile_tree([tmp_path], workers=3) == 60

    assert all(has_valid_bytecode(p) for p in tmp_path.glob("*.py"))


def test_the_app_s_bytecode_comes_from_the_last_build_where_the_source_is_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "layers").mkdir()
    kept = Layer(tmp_path / "layers/app-bytecode", cache=True)

    def build(name: str, text: str) -> Path:
        root = tmp_path / name
        (root / "shop").mkdir(parents=True)
        (root / "main.py").write_text(text)
        (root / "shop/web.py").write_text("x = 1\n")
        compile_app(root, kept, Path(sys.executable))
        return root

    build("one", "y = 1\n")
    unchanged = {p.name: p.stat().st_ino for p in kept.path.iterdir()}
    second = build("two", "y = 2\n")

    assert has_valid_bytecode(second / "main.py")
    assert has_valid_bytecode(second / "shop/web.py")
    now = {p.name: p.stat().st_ino for p in kept.path.iterdir()}
    assert now["shop\\web.pyc"] == unchanged["shop\\web.pyc"]
