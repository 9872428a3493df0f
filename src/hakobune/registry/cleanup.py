"""Cleanup policies, decided: which versions of an image go, which stay, and why (Artifact Registry "Configure cleanup policies").

A version goes when a DELETE policy matches it and no KEEP policy does. Beyond that, whatever the policies say:
what an index that stays contains, stays; what a kept image's signatures and other attachments are, stays and goes
with the image; a tagged version of a repository with immutable tags stays. "Most recent" counts images: what an
index contains and what is attached to something are not counted, else one push of three platforms would be four.
Pure: `cleaning` reads the versions and carries the verdicts out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hakobune.registry.cleanup_policy import (
    SECOND,
    Condition,
    Policy,
    parse_duration_us,
    read_policy,
)

# cosign's names for what belongs to a manifest, and the referrers tag of clients (distribution-spec "Referrers Tag Schema").
_ATTACHMENT_TAG: Final = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(?:\.(?:sig|att|sbom))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version that policies are asked about."""

    image: str
    digest: str
    tags: tuple[str, ...] = ()
    pushed_at: int  # microseconds since 1970
    subject: str = ""  # the digest that it is attached to, by its `subject`
    children: tuple[str, ...] = ()  # the manifests that it contains


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a version, by which policy ("" for none), and why, in words."""

    candidate: Candidate
    deleted: bool
    policy: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Match:
    policy: str
    reason: str


def plan_cleanup(
    policies: Mapping[str, Any],
    candidates: Iterable[Candidate],
    *,
    now: int,
    immutable_tags: bool = False,
) -> tuple[Verdict, ...]:
    """A verdict for each of *candidates*, in an order in which they can be deleted: what contains comes before what it contains.

    Args:
        policies: by id, in the API's JSON (`Repository.cleanup_policies`).
        candidates: all versions of whole images.
        now: microseconds since 1970.

    Raises:
        CleanupPolicyError: a policy cannot be read.
    """
    read = {id: read_policy(id, policy) for id, policy in policies.items()}
    images: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        images.setdefault(candidate.image, []).append(candidate)
    verdicts: list[Verdict] = []
    for image in sorted(images):
        verdicts += _plan_image(read, images[image], now, immutable_tags=immutable_tags)
    return tuple(verdicts)


def attached_to(candidate: Candidate) -> tuple[str, ...]:
    """The digests of what a version belongs to: by its subject, or by the names that clients give such tags."""
    found = [candidate.subject] if candidate.subject else []
    for tag in candidate.tags:
        if match := _ATTACHMENT_TAG.fullmatch(tag):
            found.append(f"{match[1]}:{match[2]}")
    return tuple(found)


def _plan_image(
    policies: Mapping[str, Policy],
    versions: Sequence[Candidate],
    now: int,
    *,
    immutable_tags: bool,
) -> list[Verdict]:
    by_digest = {v.digest: v for v in versions}
    contained = {child for v in versions for child in v.children}
    subjects = {v.digest: [s for s in attached_to(v) if s in by_digest] for v in versions}
    counted = [v for v in versions if v.digest not in contained and not subjects[v.digest]]
    keep = _kept_by_policies(policies, versions, counted, now)
    if immutable_tags:
        for version in versions:
            if version.tags:
                keep.setdefault(
                    version.digest, _Match("", f"its tag {version.tags[0]} is immutable")
                )
    delete = {
        v.digest: match
        for v in versions
        if v.digest not in keep and (match := _deleted_by_policies(policies, v, now))
    }
    _follow_subjects(by_digest, subjects, keep, delete)
    return [
        _verdict(by_digest[digest], keep, delete)
        for digest in _containers_first(by_digest, subjects)
    ]


def _follow_subjects(
    by_digest: Mapping[str, Candidate],
    subjects: Mapping[str, list[str]],
    keep: dict[str, _Match],
    delete: dict[str, _Match],
) -> None:
    """Let what belongs to something share its fate, whatever else it is: until nothing changes."""
    changed = True
    while changed:
        changed = False
        for digest, version in by_digest.items():
            if digest not in delete:
                for child in version.children:
                    if child in delete:
                        del delete[child]
                        keep[child] = _Match("", f"the index {digest} contains it")
                        changed = True
            alive = [s for s in subjects[digest] if s not in delete]
            if digest in delete and alive:
                del delete[digest]
                keep[digest] = _Match("", f"it belongs to {alive[0]}, which stays")
                changed = True
    # Nothing that stays is brought down here: only what stayed for no reason of its own.
    changed = True
    while changed:
        changed = False
        held = {c for d, v in by_digest.items() if d not in delete for c in v.children}
        for digest in by_digest:
            owners = subjects[digest]
            gone = bool(owners) and all(s in delete for s in owners)
            if gone and digest not in delete and digest not in keep and digest not in held:
                delete[digest] = _Match(delete[owners[0]].policy, f"it belongs to {owners[0]}, which goes")  # fmt: skip
                changed = True


def _kept_by_policies(
    policies: Mapping[str, Policy],
    versions: Sequence[Candidate],
    counted: Sequence[Candidate],
    now: int,
) -> dict[str, _Match]:
    keep: dict[str, _Match] = {}
    for id, policy in policies.items():
        if policy.action != "KEEP":
            continue
        if policy.condition is not None:
            for version in versions:
                if reason := _matches(policy.condition, version, now):
                    keep.setdefault(version.digest, _Match(id, reason))
        if policy.most_recent_versions is not None:
            rule = policy.most_recent_versions
            named = [v for v in counted if _starts(v.image, rule.package_name_prefixes)]
            newest = sorted(named, key=lambda v: (-v.pushed_at, v.digest))[: rule.keep_count]
            for place, version in enumerate(newest, 1):
                reason = f"it is number {place} of the {rule.keep_count} most recent"
                keep.setdefault(version.digest, _Match(id, reason))
    return keep


def _deleted_by_policies(
    policies: Mapping[str, Policy], version: Candidate, now: int
) -> _Match | None:
    for id, policy in policies.items():
        if policy.action == "DELETE" and policy.condition is not None:
            reason = _matches(policy.condition, version, now)
            if reason:
                return _Match(id, reason)
    return None


def _matches(condition: Condition, version: Candidate, now: int) -> str:
    """Why the condition is true of the version; "" if it is not."""
    reasons = []
    if condition.tag_state == "TAGGED":
        tags = [t for t in version.tags if _starts(t, condition.tag_prefixes)]
        if not tags:
            return ""
        reasons.append(f"it has the tag {tags[0]}")
    elif condition.tag_state == "UNTAGGED":
        if version.tags:
            return ""
        reasons.append("it has no tag")
    if not _starts(version.digest, condition.version_name_prefixes):
        return ""
    if not _starts(version.image, condition.package_name_prefixes):
        return ""
    age = now - version.pushed_at
    if condition.older_than:
        if age <= parse_duration_us(condition.older_than):
            return ""
        reasons.append(f"it was pushed {_days(age)} ago, more than {condition.older_than}")
    if condition.newer_than:
        if age >= parse_duration_us(condition.newer_than):
            return ""
        reasons.append(f"it was pushed {_days(age)} ago, less than {condition.newer_than}")
    return ", ".join(reasons) or "its name matches"


def _verdict(
    version: Candidate, keep: Mapping[str, _Match], delete: Mapping[str, _Match]
) -> Verdict:
    if match := delete.get(version.digest):
        return Verdict(version, True, match.policy, match.reason)
    if match := keep.get(version.digest):
        return Verdict(version, False, match.policy, match.reason)
    return Verdict(version, False, "", "no policy deletes it")


def _containers_first(
    by_digest: Mapping[str, Candidate], subjects: Mapping[str, list[str]]
) -> list[str]:
    """Digests so that an index comes before what it contains, and attachments before their subject."""
    order: list[str] = []
    seen: set[str] = set()
    above: dict[str, list[str]] = {digest: [] for digest in by_digest}
    for digest, version in by_digest.items():
        for child in version.children:
            if child in above:
                above[child].append(digest)
        for subject in subjects[digest]:
            above[subject].append(digest)
    for start in sorted(by_digest):
        # Depth first without recursion: an index may be as deep as somebody likes.
        stack = [(start, False)]
        while stack:
            digest, done = stack.pop()
            if done:
                order.append(digest)
            elif digest not in seen:
                seen.add(digest)
                stack.append((digest, True))
                stack += [(higher, False) for higher in above[digest]]
    return order


def _starts(text: str, prefixes: Sequence[str]) -> bool:
    return not prefixes or text.startswith(tuple(prefixes))


def _days(age: int) -> str:
    return f"{age / SECOND / 86400:.1f} days"
