"""What is said when no container has a name, or another one has it already."""

from __future__ import annotations

from hakobune.runtime.container import ID_PATTERN, ContainerError


def no_container(id: str) -> ContainerError:
    """Nobody has the name: kind `not_found`."""
    why = ""
    if not ID_PATTERN.fullmatch(id):
        why = "a container's name is 1 to 63 of a-z 0-9 _ . - and begins with a letter or digit"
    return ContainerError(
        f"there is no container {id!r}",
        why=why,
        fix="`hako container ls -a` lists them",
        kind="not_found",
    )


def name_taken(id: str) -> ContainerError:
    """A container has the name: kind `exists`."""
    return ContainerError(
        f"cannot make the container {id!r}",
        why="there is one already",
        fix=f"choose another --name, or `hako container rm -f {id}` first",
        kind="exists",
    )
