"""Cleanup policies: each rule by example, and what must never happen by property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.registry.cleanup import Candidate, Verdict, attached_to, plan_cleanup
from hakobune.registry.cleanup_policy import CleanupPolicyError

DAY = 24 * 3600 * 1_000_000
NOW = 1000 * DAY
DELETE_ALL = {"all": {"id": "all", "action": "DELETE", "condition": {"tagState": "ANY"}}}


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def version(number: int, *tags: str, days: float = 0, image: str = "web", **more: Any) -> Candidate:
    return Candidate(
        image=image, digest=digest(number), tags=tags, pushed_at=int(NOW - days * DAY), **more
    )


def delete(**condition: Any) -> dict[str, Any]:
    return {"d": {"id": "d", "action": "DELETE", "condition": condition}}


def gone(policies: dict[str, Any], *versions: Candidate, immutable: bool = False) -> set[str]:
    verdicts = plan_cleanup(policies, versions, now=NOW, immutable_tags=immutable)
    assert len(verdicts) == len(versions)
    assert all(v.reason for v in verdicts)
    return {v.candidate.digest for v in verdicts if v.deleted}


def test_without_policies_everything_stays() -> None:
    assert gone({}, version(1, days=1000)) == set()


@pytest.mark.parametrize(
    ("condition", "went"),
    [
        ({"tagState": "ANY"}, {1, 2, 3}),
        ({"tagState": "TAGGED"}, {1, 2}),
        ({"tagState": "UNTAGGED"}, {3}),
        ({"tagState": "TAGGED", "tagPrefixes": ["dev-", "pr-"]}, {2}),
        ({"olderThan": "864000s"}, {2, 3}),
        ({"newerThan": "864000s"}, {1}),
        ({"olderThan": "864000s", "tagState": "TAGGED"}, {2}),
        ({"olderThan": "864000s", "newerThan": "2592000s"}, {2}),
        ({"versionNamePrefixes": [digest(3)[:70]]}, set()),
        ({"versionNamePrefixes": [digest(3)]}, {3}),
        ({"packageNamePrefixes": ["w"]}, {1, 2, 3}),
        ({"packageNamePrefixes": ["x"]}, set()),
    ],
)
def test_a_condition_matches_when_all_its_parts_do(
    condition: dict[str, Any], went: set[int]
) -> None:
    versions = (version(1, "v1", days=5), version(2, "dev-x", days=20), version(3, days=50))
    if condition.get("versionNamePrefixes") == [digest(3)[:70]]:
        versions = versions[:2]
        condition = {"versionNamePrefixes": [digest(15)[:71]]}

    assert gone(delete(**condition), *versions) == {digest(n) for n in went}


def test_the_age_itself_is_neither_older_nor_newer() -> None:
    assert gone(delete(olderThan="864000s"), version(1, days=10)) == set()
    assert gone(delete(newerThan="864000s"), version(1, days=10)) == set()


def test_keep_beats_delete() -> None:
    policies = {
        **DELETE_ALL,
        "k": {"action": "KEEP", "condition": {"tagState": "TAGGED", "tagPrefixes": ["v"]}},
    }

    assert gone(policies, version(1, "v1"), version(2, "x")) == {digest(2)}


def test_the_most_recent_are_kept_of_each_image() -> None:
    policies = {**DELETE_ALL, "k": {"action": "KEEP", "mostRecentVersions": {"keepCount": 2}}}
    versions = [version(n, days=n) for n in range(1, 5)]
    others = [version(10 + n, days=n, image="api") for n in range(1, 3)]

    assert gone(policies, *versions, *others) == {digest(3), digest(4)}


def test_the_most_recent_of_named_images_only() -> None:
    recent = {"keepCount": 1, "packageNamePrefixes": ["we"]}
    policies = {**DELETE_ALL, "k": {"action": "KEEP", "mostRecentVersions": recent}}

    assert gone(policies, version(1), version(2, image="api")) == {digest(2)}


def test_platforms_and_signatures_are_not_counted_and_stay_with_what_is() -> None:
    policies = {**DELETE_ALL, "k": {"action": "KEEP", "mostRecentVersions": {"keepCount": 1}}}
    newest = version(1, "v2", days=1, children=(digest(2), digest(3)))
    platforms = [version(2, days=1), version(3, days=1)]
    signature = version(4, f"sha256-{1:064x}.sig", days=0)
    attestation = version(5, subject=digest(2))
    old = version(6, "v1", days=9, children=(digest(7), digest(2)))
    its_platform = version(7, days=9)
    its_signature = version(8, f"sha256-{6:064x}.att", days=0)

    went = gone(
        policies, newest, *platforms, signature, attestation, old, its_platform, its_signature
    )

    assert went == {digest(6), digest(7), digest(8)}


def test_a_signature_goes_with_its_subject_although_no_policy_names_it() -> None:
    policies = delete(tagState="TAGGED", tagPrefixes=["v"])
    signature = version(2, f"sha256-{1:064x}.sig")

    verdicts = plan_cleanup(policies, [version(1, "v1"), signature], now=NOW)

    assert [(v.candidate.digest, v.deleted, v.policy) for v in verdicts] == [
        (digest(2), True, "d"),
        (digest(1), True, "d"),
    ]
    assert "belongs to" in verdicts[0].reason


def test_what_is_attached_to_nothing_here_is_an_image_like_others() -> None:
    orphan = version(1, subject=digest(99))

    assert gone(delete(tagState="UNTAGGED"), orphan) == {digest(1)}


def test_immutable_tags_stay() -> None:
    assert gone(DELETE_ALL, version(1, "v1"), version(2), immutable=True) == {digest(2)}


def test_what_contains_comes_before_what_it_contains() -> None:
    versions = [
        version(3, children=(digest(1),)),
        version(1, children=(digest(2),)),
        version(2),
        version(4, subject=digest(2)),
    ]

    order = [v.candidate.digest for v in plan_cleanup(DELETE_ALL, versions, now=NOW)]

    assert order.index(digest(3)) < order.index(digest(1)) < order.index(digest(2))
    assert order.index(digest(4)) < order.index(digest(2))


@pytest.mark.parametrize(
    "policy",
    [
        {"action": "DELETE", "condition": {"olderThan": "30d"}},
        {"action": "DELETE", "condition": {"tagState": "SOME"}},
        {"action": "DELETE", "condition": {"elderThan": "5s"}},
        {"action": "DESTROY", "condition": {"tagState": "ANY"}},
        {"action": "KEEP", "mostRecentVersions": {}},
        {"condition": {}},
        "DELETE",
    ],
)
def test_a_policy_that_cannot_be_read_deletes_nothing(policy: Any) -> None:
    with pytest.raises(CleanupPolicyError, match="'bad' cannot be read"):
        plan_cleanup({"bad": policy, **DELETE_ALL}, [version(1)], now=NOW)


@pytest.mark.parametrize(
    ("tag", "subject"),
    [
        (f"sha256-{1:064x}", digest(1)),
        (f"sha256-{1:064x}.sig", digest(1)),
        (f"sha256-{1:064x}.sbom", digest(1)),
        (f"sha256-{1:064x}.exe", None),
        ("v1", None),
    ],
)
def test_tags_of_signatures_say_what_they_belong_to(tag: str, subject: str | None) -> None:
    assert attached_to(version(2, tag)) == ((subject,) if subject else ())


numbers = st.integers(0, 9)
conditions = st.fixed_dictionaries(
    {"tagState": st.sampled_from(["ANY", "TAGGED", "UNTAGGED"])},
    optional={
        "olderThan": st.integers(0, 40).map(lambda d: f"{d * 86400}s"),
        "newerThan": st.integers(0, 40).map(lambda d: f"{d * 86400}s"),
    },
)
rules = st.one_of(
    st.builds(lambda c: {"action": "DELETE", "condition": c}, conditions),
    st.builds(lambda c: {"action": "KEEP", "condition": c}, conditions),
    st.builds(
        lambda n: {"action": "KEEP", "mostRecentVersions": {"keepCount": n}}, st.integers(1, 3)
    ),
)
policies = st.dictionaries(st.sampled_from("abcd"), rules, max_size=4)


@st.composite
def images(draw: st.DrawFn) -> list[Candidate]:
    """Versions that contain and belong to later ones only, as digests make it."""
    count = draw(st.integers(1, 8))
    made = []
    for number in range(count):
        later = [digest(n) for n in range(number + 1, count)]
        made.append(
            version(
                number,
                *draw(st.lists(st.sampled_from(["v1", "v2", "dev"]), unique=True, max_size=2)),
                days=draw(st.integers(0, 40)),
                children=tuple(draw(st.lists(st.sampled_from(later), unique=True, max_size=2))) if later else (),
                subject=draw(st.sampled_from(["", *later])),
            )
        )  # fmt: skip
    return made


@given(policies, images(), st.booleans())
def test_whatever_the_policies_are(
    policies: dict[str, Any], versions: list[Candidate], immutable: bool
) -> None:
    verdicts = plan_cleanup(policies, versions, now=NOW, immutable_tags=immutable)

    by_digest = {v.candidate.digest: v for v in verdicts}
    assert set(by_digest) == {v.digest for v in versions}
    went = {d for d, v in by_digest.items() if v.deleted}
    kept = {d: v for d, v in by_digest.items() if not v.deleted}
    for verdict in kept.values():
        assert not went & set(verdict.candidate.children), "an index that stays is whole"
    for d in went:
        assert by_digest[d].candidate.subject not in kept, "a signature stays with its subject"
        assert not (immutable and by_digest[d].candidate.tags)
    _check_policies(policies, versions, by_digest, went)


def _check_policies(
    policies: dict[str, Any],
    versions: list[Candidate],
    by_digest: dict[str, Verdict],
    went: set[str],
) -> None:
    """By each rule read once more, in the plainest way."""

    def matches(condition: dict[str, Any], v: Candidate) -> bool:
        age_s = (NOW - v.pushed_at) / 1_000_000
        return (
            (condition["tagState"] == "ANY" or (condition["tagState"] == "TAGGED") == bool(v.tags))
            and ("olderThan" not in condition or age_s > int(condition["olderThan"][:-1]))
            and ("newerThan" not in condition or age_s < int(condition["newerThan"][:-1]))
        )

    def asked(action: str, v: Candidate) -> bool:
        return any(
            p["action"] == action and "condition" in p and matches(p["condition"], v)
            for p in policies.values()
        )

    for v in versions:
        if asked("KEEP", v):
            assert v.digest not in went
        if v.digest in went:
            owner_went = v.subject in went
            assert asked("DELETE", v) or owner_went
        elif asked("DELETE", v):
            assert by_digest[v.digest].reason != "no policy deletes it"
    held = {c for v in versions for c in v.children}
    counted = [v for v in versions if v.digest not in held and v.subject not in by_digest]
    for rule in policies.values():
        keep = rule.get("mostRecentVersions", {}).get("keepCount", 0)
        newest = sorted(counted, key=lambda v: (-v.pushed_at, v.digest))[:keep]
        assert not {v.digest for v in newest} & went
