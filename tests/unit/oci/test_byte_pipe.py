import threading

import pytest

from hakobune.oci.byte_pipe import BytePipe


def test_bytes_come_out_in_order_and_no_more_than_was_asked_for():
    pipe = BytePipe(100)
    pipe.write(b"abcdef")
    pipe.write(b"gh")
    pipe.end()

    assert [pipe.read(4), pipe.read(4), pipe.read(4), pipe.read(4)] == [b"abcd", b"ef", b"gh", b""]


def test_a_writer_waits_while_too_much_is_on_the_way():
    pipe = BytePipe(10)
    pipe.write(b"x" * 10)
    thread = threading.Thread(target=pipe.write, args=(b"y",))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()

    assert pipe.read(100) == b"x" * 10
    thread.join(5)
    assert pipe.read(100) == b"y"


def test_a_writer_goes_on_when_the_reader_has_closed():
    pipe = BytePipe(1)
    pipe.write(b"x")
    thread = threading.Thread(target=pipe.write, args=(b"y" * 100,))
    thread.start()
    pipe.close()

    thread.join(5)
    assert not thread.is_alive()
    pipe.write(b"z")
    assert pipe.read(1) == b""


def test_a_reader_gets_the_error_that_ended_it():
    pipe = BytePipe(10)
    pipe.write(b"x")
    pipe.end(ConnectionError("cut"))

    with pytest.raises(ConnectionError, match="cut"):
        pipe.read(1)
