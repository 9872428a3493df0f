from hakobune.cli.doctor import explain
from hakobune.runtime.capabilities import Finding, State

FOUND = Finding(name="python", state=State.FOUND, detail="3.11.2", why="we are written in it")
MISSING = Finding(
    name="crun",
    state=State.MISSING,
    detail="not installed",
    why="it starts containers",
    fix="apt-get install -y crun",
)
WITHOUT = Finding(name="group hakobune", state=State.WITHOUT, detail="none", why="root alone may")


def test_what_is_missing_is_explained_with_its_fix_before_what_is_dispensable():
    assert explain((WITHOUT, FOUND, MISSING)) == [
        "",
        "missing, and needed:",
        "  crun: not installed",
        "    why: it starts containers",
        "    fix: apt-get install -y crun",
        "",
        "absent, and one can do without:",
        "  group hakobune: none",
        "    why: root alone may",
        "",
        "1 needed thing is missing",
    ]


def test_a_machine_with_everything_gets_one_line():
    assert explain((FOUND,)) == ["", "everything needed is here"]
