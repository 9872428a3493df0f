from hakobune.distribution.patience import ATTEMPTS, parse_retry_after, wait_s


def test_waits_grow_and_are_spread():
    waits = [wait_s(n, asked_s=None, random=1.0) for n in range(1, ATTEMPTS)]
    least = [wait_s(n, asked_s=None, random=0.0) for n in range(1, ATTEMPTS)]

    assert waits == sorted(waits, key=lambda w: w or 0)
    assert all(a and b and a == b / 2 for a, b in zip(least, waits, strict=True))


def test_there_is_an_end():
    assert wait_s(ATTEMPTS, asked_s=None, random=0.5) is None


def test_what_the_server_asks_is_kept_unless_it_is_too_long():
    assert wait_s(1, asked_s=12.0, random=0.0) == 12.0
    assert wait_s(1, asked_s=3600.0, random=0.0) is None


def test_retry_after_is_seconds_or_a_date():
    assert parse_retry_after("120", now=0) == 120.0
    assert parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now=10) == 50.0
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT", now=10) == 0.0
    assert parse_retry_after("soon", now=0) is None
    assert parse_retry_after(None, now=0) is None
