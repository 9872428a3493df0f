"""Which signals a command passes on to the container in front of which it stands."""

from __future__ import annotations

import signal

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# The so many-th SIGINT or SIGTERM kills: a first process without a handler ignores them.
PATIENCE = 3
