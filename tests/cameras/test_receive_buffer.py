"""The kernel's receive buffer of a socket that somebody else opened."""

from __future__ import annotations

import socket

from segdec_edge.cameras.receive_buffer import enlarge


def test_socket_is_found_by_its_port_and_left_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        assert enlarge(port, 100_000) == 100_000
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 200_000
        one.sendto(b"x", ("127.0.0.1", port))
        assert one.recv(10) == b"x"


def test_what_the_kernel_does_not_grant_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        granted = enlarge(one.getsockname()[1], 1 << 30)
        assert granted is not None
        assert granted < 1 << 30


def test_port_of_nobody_is_none() -> None:
    assert enlarge(0, 100_000) is None
