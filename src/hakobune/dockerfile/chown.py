"""Whom `--chown` and the owner of a WORKDIR mean: numbers, or names of the image's own users."""

from __future__ import annotations

from msgspec.structs import replace

from hakobune.dockerfile.copy_into import Owner
from hakobune.dockerfile.instructions import Position
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.workshop import Workshop


def resolve_owner(workshop: Workshop, stage: StageState, text: str, at: Position) -> Owner:
    """The ids of `user[:group]`. A number without a group is its own group; a name that the image does not have is root's.

    BuildKit does that without a word; here it is a warning.
    """
    user, _, group = text.partition(":")
    if user.isdecimal() and (not group or group.isdecimal()):
        return Owner(int(user), int(group or user))
    from hakobune.oci.image_user import ImageUserError, resolve_user

    try:
        with workshop.layers.lowers(stage.layers) as lowers:
            found = resolve_user(text, lowers)
    except ImageUserError as error:
        workshop.report.note(f"{at}: {error.what}: root is taken", warning=True)
        return Owner(0, 0)
    owner = Owner(found.uid, found.gid)
    return replace(owner, gid=owner.uid) if user.isdecimal() and not group else owner
