"""Failures in words, and which held request gets which verdict."""

from __future__ import annotations

from hakobune.runtime.container import ContainerStatus, ListeningSocket, Phase
from hakobune.serving.change_checks import allocate_label, allocate_port
from hakobune.serving.diagnosis import BootFacts, describe_exit, describe_ready, explain_boot
from hakobune.serving.service import ServiceName
from hakobune.serving.verdict import pending_limit_s
from hakobune.serving.wake import Question, parse_question

ELSEWHERE = ListeningSocket(address="127.0.0.1", port=5000, pid=7, command="python")


def facts(**changes: object) -> BootFacts:
    fields: dict[str, object] = {
        "revision": "shop-00003",
        "port": 8080,
        "alive_s": 240.0,
        "ended": None,
        "probe": "nothing listens on port 8080 (Connection refused)",
        "listening": False,
        "sockets": (),
        "last_lines": (),
        "memory": "512Mi",
    }
    return BootFacts(**(fields | changes))  # type: ignore[arg-type] # builder


def stopped(**changes: object) -> ContainerStatus:
    return ContainerStatus(id="i", phase=Phase.STOPPED, **changes)  # type: ignore[arg-type] # builder


def test_the_address_it_really_listens_on_is_said() -> None:
    lines = str(explain_boot(facts(sockets=(ELSEWHERE,)))).splitlines()

    assert lines[0] == "shop-00003 does not listen on $PORT (8080)"
    assert lines[1].endswith("python (pid 7) alive 240 s; listens on 127.0.0.1:5000 only")


def test_an_end_before_ready_is_said_with_code_signal_or_memory() -> None:
    assert describe_exit(stopped(exit_code=3)) == "exited with code 3"
    assert describe_exit(stopped(exit_code=139, signal=11)) == "was ended by SIGSEGV"
    killed = stopped(exit_code=137, signal=9, oom_killed=True)
    assert describe_exit(killed, memory="512Mi") == "ran out of memory (limit 512Mi)"
    assert describe_exit(stopped()) == "ended while nobody watched"


def test_what_was_logged_is_in_the_message_the_last_line_first_then_from_the_oldest_on() -> None:
    boot = facts(ended=stopped(exit_code=1), last_lines=("one", "two", "three"))

    assert str(explain_boot(boot)).splitlines()[-3:] == [
        "  log    last: three",
        "         before: one",
        "         before: two",
    ]


def test_ready_says_who_listens_where() -> None:
    socket = ListeningSocket(address="0.0.0.0", port=8080, pid=1, command="uvicorn")

    assert describe_ready(0.61, (socket,), 8080) == "uvicorn listens on 0.0.0.0:8080 after 0.6 s"


def test_a_request_waits_ten_seconds_or_three_and_a_half_starts() -> None:
    assert pending_limit_s(0.1, 10) == 10
    assert pending_limit_s(8, 10) == 28
    assert pending_limit_s(100, 10) == 55


def test_only_questions_are_understood() -> None:
    assert parse_question(b"again r1 2\n") == Question("r1", 2)
    assert parse_question(b"hello\n") is None
    assert parse_question(b"new r1 x\n") is None


def test_labels_and_ports_are_given_once() -> None:
    name = ServiceName("p2", "local", "shop")

    assert allocate_label(name, ["shop", "shop-2"]) == "shop-3"
    assert allocate_port([18082, 18080], [18080, None]) == 18082
    assert allocate_port([18080], [18080]) is None
