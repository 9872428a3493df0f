"""Whom `--chown` and the owner of a WORKDIR mean: numbers, or names of the image's own users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hakobune.dockerfile.copy_into import Owner
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.instructions import Position
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.workshop import Workshop

_LARGEST = 2**32 - 2  # -1 means "as it is" to chown(2)


def has_names(text: str) -> bool:
    """Whether somebody in `user[:group]` is not named by a number."""
    user, _, group = text.partition(":")
    return not all(part.isdecimal() for part in (user, group) if part)


def resolve_owner(workshop: Workshop, stage: StageState, text: str, at: Position) -> Owner:
    """The ids of `user[:group]`. A number without a group is its own group.

    A user that the image does not have is root, a group that it does not have is the user's. BuildKit does that without a
    word; here it is a warning.

    Raises:
        DockerfileError: a name, and the image is empty; a number that is no id.
    """
    if not has_names(text):
        user, _, group = text.partition(":")
        return Owner(_number(user, at), _number(group or user, at))
    if not stage.layers:
        raise DockerfileError(
            f"{text}: nobody has a name here yet",
            file=at.file,
            line=at.line,
            why="the image is empty, and names are those of its /etc/passwd and /etc/group",
            fix="write numbers, for example 1000:1000",
        )
    with workshop.layers.lowers(stage.layers) as lowers:
        return _resolve(workshop, text, lowers, at)


def _resolve(workshop: Workshop, text: str, lowers: Sequence[Path], at: Position) -> Owner:
    from hakobune.oci.image_user import ImageUserError, resolve_user

    user, _, group = text.partition(":")
    owner = Owner(0, 0)
    try:
        found = resolve_user(user, lowers)
        owner = Owner(found.uid, found.uid if user.isdecimal() else found.gid)
    except ImageUserError as error:
        workshop.report.note(f"{at}: {error.what}: root is taken", warning=True)
    if group.isdecimal():
        return Owner(owner.uid, _number(group, at))
    if group:
        try:
            return Owner(owner.uid, resolve_user(f"0:{group}", lowers).gid)
        except ImageUserError as error:
            workshop.report.note(f"{at}: {error.what}: {owner.gid} is taken", warning=True)
    return owner


def _number(text: str, at: Position) -> int:
    number = int(text or "0")
    if number > _LARGEST:
        raise DockerfileError(
            f"{text} is no id of a user or group",
            file=at.file,
            line=at.line,
            fix=f"ids go from 0 to {_LARGEST}",
        )
    return number
