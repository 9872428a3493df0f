"""The names of images: `index.json` of the layout, annotated as other tools do (image-spec annotations.md).

A name is stored full (`docker.io/library/web:latest`). Entries of other tools are kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.descriptor import INDEX, REF_NAME, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Index, decode_index
from hakobune.oci.reference import Reference
from hakobune.support.files import write_atomically

EMPTY = Index(schema_version=2, media_type=INDEX, manifests=())
# What `index.json` was at the last sync to disk: the one to go back to after a power loss.
SYNCED_COPY = ".index.synced.json"


class NamesFile:
    """`index.json`; read again only when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._index = EMPTY
        self._by_name: dict[str, Descriptor] = {}

    def find(self, name: Reference) -> Descriptor | None:
        self._refresh()
        return self._by_name.get(str(name))

    def entries(self) -> tuple[Descriptor, ...]:
        """Every manifest that the layout names, in any tool's way."""
        self._refresh()
        return self._index.manifests

    def names(self) -> tuple[tuple[Reference, Digest], ...]:
        """The names that are references, sorted."""
        self._refresh()
        found = []
        for text, descriptor in self._by_name.items():
            try:
                found.append((Reference.parse(text), descriptor.digest))
            except HakoError:
                continue  # another tool's own kind of name
        return tuple(sorted(found, key=lambda item: str(item[0])))

    def change(self, edit: Callable[[dict[str, Descriptor]], None]) -> None:
        """Replace the file by one in which *edit* has changed the names. For the holder of the names' lock."""
        self._refresh()
        wanted = dict(self._by_name)
        edit(wanted)
        if wanted == self._by_name:
            return
        unnamed = [entry for entry in self._index.manifests if REF_NAME not in entry.annotations]
        named = [_named(wanted[name], name) for name in sorted(wanted)]
        index = msgspec.structs.replace(self._index, manifests=(*unnamed, *named))
        write_atomically(self._path, encode_document(index))

    def is_readable(self) -> bool:
        try:
            self._refresh()
        except HakoError:
            return False
        return True

    def _refresh(self) -> None:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            self._index, self._by_name, self._seen = EMPTY, {}, None
            return
        seen = (now.st_ino, now.st_mtime_ns, now.st_size)
        if seen == self._seen:
            return
        self._index = decode_index(self._path.read_bytes())
        self._by_name = {
            name: entry
            for entry in self._index.manifests
            if (name := entry.annotations.get(REF_NAME))
        }
        self._seen = seen


def _named(entry: Descriptor, name: str) -> Descriptor:
    return msgspec.structs.replace(entry, annotations={**entry.annotations, REF_NAME: name})
