"""What a buildpack is made for and what an image is: operating system, architecture, distribution (CNB buildpack.md "Targets")."""

from __future__ import annotations

import msgspec


class Distribution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A distribution as /etc/os-release names it."""

    name: str = ""
    version: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a buildpack says it runs on; an empty field means any."""

    os: str = ""
    arch: str = ""
    variant: str = ""
    distros: tuple[Distribution, ...] = ()

    def matches(self, image: ImageTarget) -> bool:
        """Whether the buildpack can work for *image* (CNB platform.md "Target data").

        A field equals, or is empty on either side; where distributions are listed, the image's must
        be among them.
        """
        pairs = ((self.os, image.os), (self.arch, image.arch), (self.variant, image.arch_variant))
        if any(ours and theirs and ours != theirs for ours, theirs in pairs):
            return False
        if not self.distros:
            return True
        return image.distro is not None and any(
            d.name in ("", image.distro.name) and d.version in ("", image.distro.version)
            for d in self.distros
        )

    def __str__(self) -> str:
        platform = "/".join(part for part in (self.os or "any os", self.arch, self.variant) if part)
        names = ", ".join(f"{d.name} {d.version}".strip() for d in self.distros)
        return f"{platform} ({names})" if names else platform


class ImageTarget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab"):
    """What a run image is, as `analyzed.toml` keeps it under `[run-image.target]`."""

    os: str
    arch: str = ""
    arch_variant: str = ""
    id: str = ""
    distro: Distribution | None = None

    def __str__(self) -> str:
        platform = "/".join(part for part in (self.os, self.arch, self.arch_variant) if part)
        if self.distro is None:
            return platform
        return f"{platform} ({self.distro.name} {self.distro.version})"
