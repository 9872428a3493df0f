"""Where a `hako` that pip or uv has installed begins: Ctrl-C ends it as it ends any program until `main.run` minds it."""

from __future__ import annotations

import signal
from typing import NoReturn

if (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):  # it may be ignored, as with nohup
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run() -> NoReturn:
    """As `main.run`."""
    from hakobune.cli import main  # takes long enough to be interrupted

    main.run()
