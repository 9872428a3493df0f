"""Parser directives: the comments at the very top that change how the rest is read (Dockerfile reference "Parser directives")."""

from __future__ import annotations

import re

from hakobune.dockerfile.errors import TextError

KNOWN = frozenset({"syntax", "escape", "check"})
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*\Z")


class DirectiveReader:
    """Takes the lines of a file from the first on; the first one that is no directive ends them.

    Attributes:
        found: name to value, so far.
        escape: the escape character that holds from here on.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.escape = "\\"
        self._open = True

    def take(self, line: str) -> bool:
        """Whether the line is a directive.

        Raises:
            TextError: given twice, an escape that is neither a backslash nor a backquote, an unknown check option.
        """
        if not self._open:
            return False
        match = _DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in KNOWN:
            self._open = False
            return False
        if name in self.found:
            raise TextError(f"the directive {name!r} is given twice", fix="delete one of them")
        value = match[2]
        self.found[name] = value
        if name == "check":
            from hakobune.dockerfile.checks import Checks  # few files have the directive

            Checks.parse(value)
        if name == "escape":
            if value not in ("\\", "`"):
                raise TextError(
                    f"invalid escape {value!r}", near=value, fix=r"write # escape=\ or # escape=`"
                )
            self.escape = value
        return True
