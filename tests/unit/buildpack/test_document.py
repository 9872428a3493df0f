import msgspec
import pytest

from hakobune.buildpack.document import InvalidDocumentError, find_line, read_document, show_path
from hakobune.support.files import DocumentError


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    count: int = 0


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    items: tuple[Inner, ...] = ()


def problems(text: str, *, unknown_keys: bool = False) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        read_document(text.encode(), Outer, name="f.toml", unknown_keys=unknown_keys)
    return caught.value.problems


def test_a_valid_document_becomes_the_struct() -> None:
    document = read_document(b'title = "x"\n[[items]]\nname = "a"\n', Outer, name="f.toml")

    assert document == Outer(title="x", items=(Inner(name="a"),))


def test_every_problem_is_reported_at_once_with_its_line() -> None:
    text = 'titel = "x"\n[[items]]\nname = "a"\n[[items]]\nname = 3\ncount = "many"\n'

    assert problems(text) == (
        "f.toml:1: titel: there is no such key (did you mean 'title'?)",
        "f.toml:5: items[2].name: Expected 'str', got 'int'",
        "f.toml:6: items[2].count: Expected 'int', got 'str'",
        "f.toml: the key 'title' is missing (did you mean 'titel'?)",
    )


def test_unknown_keys_are_allowed_where_they_are() -> None:
    read_document(b'title = "x"\nother = 1\n', Outer, name="f.toml", unknown_keys=True)


def test_a_missing_key_names_the_table_it_belongs_to() -> None:
    assert problems('title = "x"\n\n[[items]]\ncount = 1\n') == (
        "f.toml:3: items[1]: the key 'name' is missing",
    )


def test_an_array_of_the_wrong_shape_is_one_problem() -> None:
    assert problems('title = "x"\nitems = "none"\n') == (
        "f.toml:2: items: Expected 'array', got 'str'",
    )


def test_text_that_is_not_toml_names_the_place() -> None:
    with pytest.raises(DocumentError, match=r"cannot read f\.toml") as caught:
        read_document(b"title = \n", Outer, name="f.toml")

    assert "line 1" in caught.value.why


def test_text_that_is_not_utf8_is_refused_in_words() -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(b'title = "\xff"\n', Outer, name="f.toml")

    assert "not UTF-8" in caught.value.why


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("b", "c"), 4),
        (("b", "d", 1, "e"), 8),
        (("b", "d", 1), 7),
        (("b", "quoted key"), 3),
        (("nowhere",), None),
        (("b", "c", "inside"), 4),
    ],
)
def test_lines_are_found(path: tuple[str | int, ...], line: int | None) -> None:
    text = 'a = 1\n[b]\n"quoted key" = 2\nc = { inside = 1 }\n[[b.d]]\ne = 1\n[[b.d]]\ne = 2\n'

    assert find_line(text, path) == line


def test_paths_count_from_one() -> None:
    assert show_path(("order", 0, "group", 1, "id")) == "order[1].group[2].id"
