"""The `Link` header as far as lists have it: where the next page is (RFC 8288, distribution-spec "Listing Tags")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from hakobune.distribution.redirect import resolve_location, scheme_of

_LINK: Final = re.compile(r"""<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"[^"]*"|[^\s;,"]*))?)*)""")
_IS_NEXT: Final = re.compile(r"""(?i);\s*rel\s*=\s*(?:next\b|"(?:[^"]*\s)?next(?:\s[^"]*)?")""")


def next_page(headers: Iterable[str], url: str) -> str:
    """Path and query of the page after the one at *url*; empty if there is none.

    Whatever host a link names, the next page is asked for where this one came from: registries behind a proxy often
    know neither its name nor that it speaks TLS, and nobody else gets our credentials.
    """
    for header in headers:
        for link in _LINK.finditer(header):
            if _IS_NEXT.search(link[2]):
                target = resolve_location(url, link[1].strip())
                if scheme_of(target) is None:
                    return ""
                parts = urlsplit(target)
                return parts.path + (f"?{parts.query}" if parts.query else "")
    return ""
