"""In a process of its own: a loop owns SIGCHLD and reaps every child."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from hakobune.runtime.loop import Loop


def in_a_child(body: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            os._exit(0 if body() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    return status == 0


def test_timers_come_in_the_order_of_their_times_and_not_when_cancelled() -> None:
    def body() -> bool:
        loop, order = Loop(), []
        loop.after(0.03, loop.stop)
        loop.after(0.02, lambda: order.append(2))
        loop.after(0.01, lambda: order.append(1))
        loop.after(0.005, lambda: order.append(0)).cancel()
        loop.run()
        return order == [1, 2]

    assert in_a_child(body)


def test_a_childs_end_is_told_even_if_it_came_before_the_question() -> None:
    def body() -> bool:
        loop, statuses = Loop(), []
        early, late = os.fork(), 0
        if early == 0:
            os._exit(3)
        time.sleep(0.05)
        loop.reap()
        late = os.fork()
        if late == 0:
            time.sleep(0.05)
            os._exit(4)

        def ended(status: int) -> None:
            statuses.append(os.waitstatus_to_exitcode(status))
            if len(statuses) == 2:
                loop.stop()

        loop.on_child_end(early, ended)
        loop.on_child_end(late, ended)
        loop.run()
        return statuses == [3, 4]

    assert in_a_child(body)


def test_a_descriptor_closed_by_another_callback_is_not_called() -> None:
    def body() -> bool:
        loop, called = Loop(), []
        pipes = [os.pipe() for _ in range(2)]

        def read(number: int) -> None:
            called.append(number)
            other = pipes[1 - number][0]
            loop.forget(other)
            loop.forget(pipes[number][0])
            os.close(other)
            loop.soon(loop.stop)

        for number, (reader, writer) in enumerate(pipes):
            os.write(writer, b"x")
            loop.on_readable(reader, lambda number=number: read(number))
        loop.run()
        return len(called) == 1

    assert in_a_child(body)


def test_idle_work_goes_on_until_there_is_none_and_yields_to_what_is_ready() -> None:
    def body() -> bool:
        loop, done = Loop(), []

        def idle() -> bool:
            done.append(1)
            return len(done) < 5

        loop.when_idle(idle)
        loop.after(0.05, loop.stop)
        loop.run()
        return len(done) == 5

    assert in_a_child(body)


def test_termination_is_told_in_the_loop() -> None:
    def body() -> bool:
        loop, told = Loop(), []

        def end() -> None:
            told.append(1)
            loop.stop()

        loop.on_termination(end)
        loop.after(0.01, lambda: os.kill(os.getpid(), signal.SIGTERM))
        loop.run()
        return told == [1]

    assert in_a_child(body)
