"""A blob's bytes as an upstream sends them: a range, or all of it again (distribution-spec "Pulling blobs")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from hakobune.distribution.connections import Answer
from hakobune.registry.freshness import Trouble
from hakobune.registry.upstream_errors import UpstreamError

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class BlobAnswer:
    """A blob's bytes on their way.

    Attributes:
        skip: bytes at the beginning that are known already (the upstream ignores ranges).
        size: of the whole blob; -1 if the upstream does not say.
    """

    def __init__(self, host: str, answer: Answer, offset: int) -> None:
        self.host = host
        self._answer = answer
        self.skip = offset if answer.status == 200 else 0
        self.size = -1 if answer.length is None else answer.length + offset - self.skip
        if answer.status == 206:
            found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
            if found is None or int(found[1]) != offset:
                raise UpstreamError(
                    Trouble.BROKEN, host, "it sent another range than was asked for"
                )
            if found[2] != "*":
                self.size = int(found[2])

    def chunks(self) -> Iterator[bytes]:
        """The bytes that are new; they may end early.

        Raises:
            one of TRANSPORT_ERRORS: it stalls, or is cut.
        """
        for data in self._answer.chunks():
            if self.skip:
                dropped = min(self.skip, len(data))
                self.skip -= dropped
                data = data[dropped:]
            if data:
                yield data

    def close(self) -> None:
        self._answer.close()
