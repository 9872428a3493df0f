import pytest

from hakobune.distribution.errors import (
    NotThereError,
    RateLimitError,
    describe_answer,
    no_answer,
)

WHAT = "cannot pull r.test/web:1"


def test_an_answer_in_json_is_told_as_one_line():
    body = b'{"errors":[{"code":"DENIED","message":"not\\nfor \\u001b[31myou"}]}'

    error = describe_answer(WHAT, host="r.test", status=403, body=body, user="ci")

    assert str(error) == (
        "cannot pull r.test/web:1\n"
        "  why: r.test does not allow it to user 'ci' (403 DENIED: not for [31myou)\n"
        "  fix: ask the owner of the repository for access"
    )
    assert error.code == "DENIED"


def test_a_page_of_a_proxy_is_not_told():
    error = describe_answer(WHAT, host="r.test", status=502, body=b"<html>secret</html>", user="")

    assert error.why == "r.test answered 502"


def test_nobody_is_told_how_to_log_in():
    error = describe_answer(WHAT, host="r.test", status=401, body=b"", user="")

    assert "no credentials were found" in error.why
    assert "`hako auth login r.test`" in error.fix


def test_what_is_not_there_and_what_is_limited_have_classes_of_their_own():
    missing = describe_answer(WHAT, host="r.test", status=404, body=b"", user="")
    limited = describe_answer(
        WHAT, host="r.test", status=429, body=b"", user="", retry_after_s=7200
    )

    assert isinstance(missing, NotThereError)
    assert isinstance(limited, RateLimitError)
    assert "come back in 2.0 h" in limited.why


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nobody listens at r.test"),
        (ConnectionResetError(104, "reset"), "r.test cut the connection"),
        (TimeoutError("timed out"), "r.test stopped sending"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_the_cause_is_told_in_words(error: OSError, why: str):
    assert why in no_answer(WHAT, host="r.test", error=error).why


def test_the_cause_is_found_inside_of_what_wraps_it():
    outer = RuntimeError("wrapped", ConnectionRefusedError(111, "Connection refused"))

    assert "nobody listens" in no_answer(WHAT, host="r.test", error=outer).why
