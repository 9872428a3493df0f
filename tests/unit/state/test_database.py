import pytest

from hakobune.state.database import Database, DatabaseError, Drop, EventRow, Put, sqlite_url
from hakobune.state.operations import decode_operation, encode_operation, start_operation


def open_database(folder):
    return Database.open(sqlite_url(folder / "state.db"), lock=folder / "lock")


def test_what_is_written_is_there_after_a_restart(tmp_path):
    database = open_database(tmp_path)
    database.write(
        [Put("service", "a", b"1"), Put("service", "b", b"2"), Put("service", "a", b"3")]
    )
    database.close()

    again = open_database(tmp_path)

    assert again.read("service") == {"a": b"3", "b": b"2"}
    assert again.read("revision") == {}
    again.close()


def test_a_dropped_document_is_gone(tmp_path):
    database = open_database(tmp_path)
    database.write([Put("service", "a", b"1")])

    database.write([Drop("service", "a"), Drop("service", "never")])

    assert database.read("service") == {}
    database.close()


def test_the_last_events_of_a_subject_come_oldest_first(tmp_path):
    database = open_database(tmp_path)
    rows = [EventRow(time=str(n), subject="a", reason="R", message="m") for n in range(3)]
    database.write([], [*rows, EventRow(time="9", subject="b", reason="R", message="m")])

    assert database.read_events("a", limit=2) == tuple(rows[1:])
    database.close()


def test_a_file_that_is_no_database_is_named_in_words(tmp_path):
    (tmp_path / "state.db").write_bytes(b"not a database, " * 100)

    with pytest.raises(DatabaseError, match="cannot open the database") as caught:
        open_database(tmp_path)

    assert "not a database" in caught.value.why


def test_an_operation_is_read_back_as_it_was():
    operation = start_operation("projects/p/locations/l", "t", {"@type": "x", "name": "t"})

    assert decode_operation(encode_operation(operation)) == operation
    assert not operation.done


def test_a_failed_operation_carries_the_code_of_its_word():
    failed = start_operation("projects/p/locations/l", "t", {}).failed("NOT_FOUND", "gone", {})

    assert failed.to_document() == {
        "name": failed.name,
        "metadata": {},
        "done": True,
        "error": {"code": 5, "message": "gone"},
    }
