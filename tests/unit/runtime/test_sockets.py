from __future__ import annotations

import os
import socket

from hakobune.runtime.sockets import listening_sockets, parse_listening

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 4711 1 0 100 0
   1: 0100007F:1388 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1002        0 4712 1 0 20 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 4713 1 0 100 0
"""


def test_listening_sockets_alone_are_read() -> None:
    assert list(parse_listening(TCP)) == [("127.0.0.1", 5000, 4711)]
    assert list(parse_listening(TCP6)) == [("::1", 8080, 4713)]


def test_who_listens_is_found_by_the_sockets_inode() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        found = [s for s in listening_sockets(os.getpid(), [os.getpid()]) if s.port == port]
        unknown = [s for s in listening_sockets(os.getpid(), []) if s.port == port]

    assert [(s.address, s.pid) for s in found] == [("127.0.0.1", os.getpid())]
    assert "python" in found[0].command
    assert [(s.pid, s.command) for s in unknown] == [(None, "")]
