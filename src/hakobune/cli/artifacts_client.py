"""Artifact Registry's API as its commands call it, and how they name what is there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from hakobune.cli.artifacts_names import DEFAULT_LOCATION, DEFAULT_PROJECT, escape_id
from hakobune.cli.client import Client, Document
from hakobune.cli.main import Context
from hakobune.errors import HakoError

PAGE = "1000"  # the most that the API gives at once


class ArtifactsClient(Client):
    """Calls with query parameters, on `/v1`."""

    def __init__(self, context: Context) -> None:
        super().__init__(context.settings.api_socket, version="v1")

    def each(self, path: str, field: str, **query: str) -> Iterator[Document]:
        """All items of a list, page by page."""
        for page in self.pages(path, **query):
            yield from page.get(field, [])

    def pages(self, path: str, **query: str) -> Iterator[Document]:
        """All pages of a list."""
        query = {"pageSize": PAGE, **query}
        token = ""
        while True:
            page = self.get(path, **query, **({"pageToken": token} if token else {}))
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                return

    def make(self, path: str, body: Document, **query: str) -> Document:
        """POST; the answer, or the operation's response."""
        return self._done(self._call("POST", path, query, body))

    def change(self, name: str, body: Document, *, mask: str) -> Document:
        return self._call("PATCH", name, {"updateMask": mask} if mask else {}, body)

    def remove(self, name: str, **query: str) -> None:
        self._done(self._call("DELETE", name, query))

    def download(self, name: str, target: Path) -> None:
        """Write a file's content to *target*, whole or not at all.

        Raises:
            HakoError: it cannot be written.
        """
        partial = target.with_name(f".{target.name}.partial")
        pieces = self.content(f"{name}:download", alt="media")
        try:
            with partial.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
            partial.replace(target)
        except OSError as error:
            raise HakoError(f"cannot write {target}", why=error.strerror or str(error)) from error
        finally:
            pieces.close()
            partial.unlink(missing_ok=True)

    def _done(self, answer: Document) -> Document:
        return self.wait(answer) if "/operations/" in str(answer.get("name", "")) else answer

    def repository(self, arguments: argparse.Namespace, text: str) -> str:
        """The full name of a repository given short or in full."""
        if text.startswith("projects/"):
            return text
        project = arguments.project or DEFAULT_PROJECT
        return self.find_repository(project, text, arguments.location)

    def find_repository(self, project: str, repository: str, location: str | None = None) -> str:
        """The full name of PROJECT/REPOSITORY, wherever it is; in the usual location if it is nowhere."""
        if location is None:
            found = self.each(
                f"projects/{project}/locations/-/repositories",
                "repositories",
                filter=f'name="*/repositories/{escape_id(repository)}"',
            )
            for document in found:
                return str(document["name"])
        return (
            f"projects/{project}/locations/{location or DEFAULT_LOCATION}/repositories/{repository}"
        )
