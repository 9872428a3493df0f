from __future__ import annotations

import pytest

from hakobune.runtime.pool import AddressBook, NoAddressError
from hakobune.runtime.program import LONGEST_DELAY_S, restart_delay


def test_an_address_comes_back_as_late_as_possible() -> None:
    book = AddressBook(range(10, 13))
    first = book.take()
    book.release(str(first))

    others = [int(book.take()), int(book.take())]

    assert int(first) == 10
    assert others == [11, 12]
    assert int(book.take()) == 10


def test_reserved_addresses_are_not_given() -> None:
    book = AddressBook(range(10, 13))
    book.reserve("0.0.0.11")

    assert [int(book.take()), int(book.take())] == [10, 12]
    with pytest.raises(NoAddressError):
        book.take()


def test_a_program_is_started_again_at_once_then_ever_later() -> None:
    delays = [restart_delay(failures) for failures in range(12)]

    assert delays[:4] == [0.0, 0.0, 0.1, 0.2]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_S
