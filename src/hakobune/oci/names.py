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

# What the name stands for in the registry it was pulled from, where that is an index of which one image was taken.
SOURCE = "dev.hakobune.source.digest"
EMPTY = Index(schema_version=2, media_type=INDEX, manifests=())


class _Entry(msgspec.Struct):
    """What is looked at when a name is looked up: a fifth of the price of the whole document."""

    digest: str
    annotations: dict[str, str] | None = None

    @property
    def name(self) -> str:
        return (self.annotations or {}).get(REF_NAME, "")

    @property
    def source(self) -> str:
        return (self.annotations or {}).get(SOURCE, "")


class _Entries(msgspec.Struct):
    manifests: list[_Entry]


class NamesFile:
    """`index.json`; read again only when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._digests: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._entries: tuple[tuple[str, str], ...] = ()

    def source(self, name: Reference) -> Digest | None:
        """What the name stood for in its registry; `None` if it is as it is here, or nobody knows."""
        self._refresh()
        text = self._sources.get(str(name))
        return None if text is None else Digest.parse(text)

    def find(self, name: Reference) -> Digest | None:
        self._refresh()
        text = self._digests.get(str(name))
        return None if text is None else Digest.parse(text)

    def entries(self) -> tuple[tuple[str, Digest], ...]:
        """Every manifest that the layout lists, in any tool's way, with its name if it has one."""
        self._refresh()
        return tuple((name, Digest.parse(digest)) for name, digest in self._entries)

    def names(self) -> tuple[tuple[Reference, Digest], ...]:
        """The names that are references, sorted."""
        self._refresh()
        found = []
        for text, digest in self._digests.items():
            try:
                found.append((Reference.parse(text), Digest.parse(digest)))
            except HakoError:
                continue  # another tool's own kind of name
        return tuple(sorted(found, key=lambda item: str(item[0])))

    def change(self, edit: Callable[[dict[str, Descriptor]], None]) -> None:
        """Replace the file by one in which *edit* has changed the names. For the holder of the names' lock."""
        index = self._read_whole()
        before = {
            name: entry for entry in index.manifests if (name := entry.annotations.get(REF_NAME))
        }
        wanted = dict(before)
        edit(wanted)
        if wanted == before:
            return
        unnamed = [entry for entry in index.manifests if not entry.annotations.get(REF_NAME)]
        named = [_named(wanted[name], name) for name in sorted(wanted)]
        changed = msgspec.structs.replace(index, manifests=(*unnamed, *named))
        write_atomically(self._path, encode_document(changed))

    def is_readable(self) -> bool:
        try:
            self._read_whole()
        except HakoError:
            return False
        return True

    def _read_whole(self) -> Index:
        try:
            return decode_index(self._path.read_bytes())
        except FileNotFoundError:
            return EMPTY

    def _refresh(self) -> None:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            self._digests, self._sources, self._entries, self._seen = {}, {}, (), None
            return
        seen = (now.st_ino, now.st_mtime_ns, now.st_size)
        if seen == self._seen:
            return
        raw = self._path.read_bytes()
        try:
            manifests = msgspec.json.decode(raw, type=_Entries).manifests
        except msgspec.DecodeError:
            # Says what is wrong, and where; or is more patient with other tools' spelling.
            manifests = [
                _Entry(str(e.digest), dict(e.annotations)) for e in decode_index(raw).manifests
            ]
        self._entries = tuple((entry.name, entry.digest) for entry in manifests)
        self._digests = {name: digest for name, digest in self._entries if name}
        self._sources = {entry.name: entry.source for entry in manifests if entry.source}
        self._seen = seen


def _named(entry: Descriptor, name: str) -> Descriptor:
    return msgspec.structs.replace(entry, annotations={**entry.annotations, REF_NAME: name})
