"""A pull in a process of its own, for servers that must not wait: `python -m hakobune.distribution.pull_process HOME NAME`.

It prints one JSON object: the image's digest, or what, why and fix of the error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from hakobune.distribution.transfer import find_or_pull
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress


class _Result(msgspec.Struct, omit_defaults=True):
    digest: str = ""
    what: str = ""
    why: str = ""
    fix: str = ""


def read_pull_result(output: bytes, reference: Reference) -> Digest:
    """The digest in what the process printed.

    Raises:
        HakoError: the one that it printed, or that it died.
    """
    try:
        result = msgspec.json.decode(output, type=_Result)
    except msgspec.DecodeError:
        result = _Result(
            what=f"cannot pull {reference.short}", why="the process that pulls it ended"
        )
    if not result.digest:
        raise HakoError(result.what, why=result.why, fix=result.fix)
    return Digest.parse(result.digest)


def _main(home: str, name: str) -> int:
    try:
        with Store(Path(home)) as store:
            image = find_or_pull(store, Reference.parse(name), Platform.host(), SilentProgress())
            store.sync_later()
            result = _Result(digest=str(image.digest))
    except HakoError as error:
        result = _Result(what=error.what, why=error.why, fix=error.fix)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
