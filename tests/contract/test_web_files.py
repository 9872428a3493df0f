"""Files from the web: kept, asked again, taken up where they broke off, and refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hakobune.distribution.access import Access
from hakobune.distribution.web_file import fetch_file
from hakobune.errors import HakoError
from hakobune.progress import RecordedProgress

DATA = bytes(range(256)) * 4096
CUT = 300_000


class Site(ThreadingHTTPServer):
    """Answers DATA with an ETag; the first `cuts` answers break off."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.etag = '"one"'
        self.cuts = 0
        self.status = 0
        self.ranges = True
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/pack.tgz"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, asked = self.server, {name.lower(): value for name, value in self.headers.items()}
        site.seen.append(asked)
        if site.status:
            self._head(site.status, 0)
            return
        if asked.get("if-none-match") == site.etag:
            self._head(304, 0)
            return
        begin, status = 0, 200
        if site.ranges and "range" in asked and asked.get("if-range") == site.etag:
            begin, status = int(asked["range"].removeprefix("bytes=").rstrip("-")), 206
        self._head(status, len(DATA) - begin, begin)
        end = len(DATA)
        if site.cuts:
            site.cuts -= 1
            end, self.close_connection = begin + CUT, True
        self.wfile.write(DATA[begin:end])

    def _head(self, status: int, length: int, begin: int = 0) -> None:
        self.send_response(status)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(site: Site, tmp_path: Path):
    access = Access.read({}, tmp_path, uid=1)

    def run(url: str = "", **options: object) -> tuple[bytes, RecordedProgress]:
        progress = RecordedProgress()
        path = fetch_file(url or site.url, tmp_path / "kept", access, progress, **options)
        return path.read_bytes(), progress

    return run


def test_what_has_not_changed_is_not_sent_again(site: Site, fetch) -> None:
    assert fetch()[0] == DATA

    assert fetch()[0] == DATA

    assert [asked.get("if-none-match") for asked in site.seen] == [None, '"one"']
    site.etag = '"two"'
    assert fetch()[0] == DATA
    fetch()
    assert site.seen[-1]["if-none-match"] == '"two"'


def test_a_transfer_that_breaks_off_goes_on_where_it_was(site: Site, fetch) -> None:
    site.cuts = 2

    assert fetch()[0] == DATA

    assert [asked.get("range") for asked in site.seen] == [
        None,
        f"bytes={CUT}-",
        f"bytes={2 * CUT}-",
    ]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_it_begins_anew_where_the_server_cannot_say_that_it_is_the_same_file(
    site: Site, fetch, etag: str
) -> None:
    site.etag, site.cuts = etag, 1

    assert fetch()[0] == DATA

    assert all("range" not in asked for asked in site.seen)


def test_a_server_that_does_not_know_ranges_sends_all_of_it_again(site: Site, fetch) -> None:
    site.cuts, site.ranges = 1, False

    assert fetch()[0] == DATA


def test_a_file_that_always_breaks_off_is_an_error_and_leaves_nothing(
    site: Site, fetch, tmp_path: Path
) -> None:
    site.cuts, site.ranges = 9, False

    with pytest.raises(HakoError, match="cannot download http://127"):
        fetch()

    assert list((tmp_path / "kept").iterdir()) == []


def test_what_is_kept_is_taken_when_nobody_answers_and_when_nobody_may_be_asked(
    site: Site, fetch
) -> None:
    with pytest.raises(HakoError, match="was not downloaded before"):
        fetch(offline=True)
    fetch()
    seen = len(site.seen)
    assert fetch(offline=True)[0] == DATA
    assert len(site.seen) == seen
    site.shutdown()
    site.server_close()

    data, progress = fetch()

    assert data == DATA
    assert "what was downloaded before is taken" in progress.texts("warning")[0]


def test_a_refusal_names_the_url_and_why(site: Site, fetch) -> None:
    site.status = 404
    with pytest.raises(HakoError) as caught:
        fetch()
    assert str(caught.value) == (
        f"cannot download {site.url}\n  why: it is not there (404)\n"
        "  fix: check the URL, or download it and name the file"
    )
    site.status = 0
    with pytest.raises(HakoError, match="is too large"):
        fetch(most_bytes=1000)
    with pytest.raises(HakoError, match=r"change what comes by plain HTTP"):
        fetch("http://example.test/x.tgz")
    with pytest.raises(HakoError) as caught:
        fetch("https://ada:secret@example.test/x.tgz")
    assert "secret" not in str(caught.value)
