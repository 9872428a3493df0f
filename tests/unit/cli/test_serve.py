from hakobune.cli.serve_error import why_it_ended

STARTS = '{"event": "Context impl SQLiteImpl."}'
ENDED = '{"event": "controller ended", "what": "cannot listen", "why": "x does", "fix": "end x"}'


def test_a_controller_that_said_why_it_ended_is_quoted():
    error = why_it_ended([STARTS, ENDED, STARTS])

    assert (error.what, error.why, error.fix) == ("cannot listen", "x does", "end x")


def test_a_warning_on_the_way_is_not_taken_for_the_end():
    warned = '{"event": "ingress not changed", "what": "HAProxy does not answer", "why": "x"}'

    assert why_it_ended([ENDED, warned]).what == "cannot listen"
    assert why_it_ended([warned]).what == "the controller does not start"


def test_one_that_did_not_is_shown_by_the_last_lines_of_its_log():
    error = why_it_ended(["[1, 2]", "Traceback", "ImportError: no x"])

    assert error.what == "the controller does not start"
    assert error.why.splitlines()[-1] == "       ImportError: no x"
    assert why_it_ended([]).why == "it logged nothing"
