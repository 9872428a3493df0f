from hypothesis import given
from hypothesis import strategies as st

from hakobune.registry.freshness import (
    Absent,
    Failed,
    Known,
    Named,
    Policy,
    Step,
    Then,
    Trouble,
    after_asking,
    before_asking,
    not_before,
    stale_note,
)

NOW = 1_000_000.0
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
KEPT = Known(digest=A, checked_at=NOW - 7200)


def test_a_tag_is_served_without_a_question_for_its_ttl_and_asked_for_afterwards():
    policy = Policy(ttl_s=3600)

    young = Known(digest=A, checked_at=NOW - 3599)
    old = Known(digest=A, checked_at=NOW - 3600)

    assert before_asking(young, policy, now=NOW) is Step.SERVE
    assert before_asking(old, policy, now=NOW) is Step.ASK


def test_a_ttl_of_nothing_asks_each_time():
    assert before_asking(Known(digest=A, checked_at=NOW), Policy(ttl_s=0), now=NOW) is Step.ASK


def test_what_was_checked_in_the_future_is_checked_again_since_the_clock_was_set_back():
    assert before_asking(Known(digest=A, checked_at=NOW + 5), Policy(), now=NOW) is Step.ASK
    far = Known(negative_until=NOW + 9_999)
    assert before_asking(far, Policy(negative_ttl_s=60), now=NOW) is Step.ASK


def test_what_was_never_heard_of_is_asked_for():
    assert before_asking(Known(), Policy(), now=NOW) is Step.ASK


def test_what_the_upstream_did_not_have_is_not_asked_for_again_soon():
    known = Known(negative_until=NOW + 30)

    assert before_asking(known, Policy(), now=NOW) is Step.MISSING
    assert before_asking(known, Policy(), now=NOW + 30) is Step.ASK


def test_an_upstream_that_fails_is_not_asked_about_what_is_cached():
    assert before_asking(KEPT, Policy(), now=NOW, down_until=NOW + 5) is Step.STALE
    assert before_asking(KEPT, Policy(), now=NOW, down_until=NOW) is Step.ASK
    assert before_asking(Known(), Policy(), now=NOW, down_until=NOW + 5) is Step.ASK


def test_a_tag_that_has_not_moved_is_served_and_one_that_has_is_fetched():
    assert after_asking(KEPT, Named(digest=A), Policy(), now=NOW) is Then.SERVE
    assert after_asking(KEPT, Named(digest=B), Policy(), now=NOW) is Then.FETCH
    assert after_asking(KEPT, Named(digest=""), Policy(), now=NOW) is Then.FETCH
    assert after_asking(Known(), Named(digest=""), Policy(), now=NOW) is Then.FETCH


def test_what_is_gone_upstream_is_served_unless_the_repository_does_not_want_that():
    assert after_asking(KEPT, Absent(), Policy(), now=NOW) is Then.DELETED
    assert after_asking(KEPT, Absent(), Policy(serve_deleted=False), now=NOW) is Then.MISSING
    assert after_asking(Known(), Absent(), Policy(), now=NOW) is Then.MISSING


def test_every_trouble_of_the_upstream_is_hidden_by_what_is_cached():
    for trouble in Trouble:
        failed = Failed(trouble=trouble)
        assert after_asking(KEPT, failed, Policy(), now=NOW) is Then.STALE
        assert after_asking(Known(), failed, Policy(), now=NOW) is Then.FAIL


def test_stale_has_an_end_where_the_repository_says_so():
    policy = Policy(stale_if_error_s=3600)

    failed = Failed(trouble=Trouble.BROKEN)

    assert after_asking(KEPT, failed, policy, now=NOW) is Then.FAIL
    assert before_asking(KEPT, policy, now=NOW, down_until=NOW + 5) is Step.ASK


def test_a_limit_holds_as_long_as_the_upstream_says_but_not_for_ever():
    assert not_before(Failed(trouble=Trouble.LIMITED, retry_after_s=90), now=NOW) == NOW + 90
    assert not_before(Failed(trouble=Trouble.LIMITED, retry_after_s=1e9), now=NOW) == NOW + 3600
    assert not_before(Failed(trouble=Trouble.LIMITED), now=NOW) == NOW + 60
    assert not_before(Failed(trouble=Trouble.REFUSED), now=NOW) == 0.0


def test_the_warning_says_how_old_it_is_and_why():
    assert (
        stale_note(KEPT, "registry.test answered 503", now=NOW)
        == "stale: served from the cache, last checked 2 h ago: registry.test answered 503"
    )


@given(
    st.sampled_from(
        [Known(), KEPT, Known(digest=A, checked_at=NOW), Known(negative_until=NOW + 1)]
    ),
    st.floats(-1e7, 1e7),
    st.floats(-1e7, 1e7),
)
def test_nothing_is_served_that_is_not_there(known: Known, skew: float, down: float):
    step = before_asking(known, Policy(), now=NOW + skew, down_until=NOW + down)

    assert known.digest or step in (Step.ASK, Step.MISSING)
