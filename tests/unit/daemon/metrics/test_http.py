# SPDX-License-Identifier: Apache-2.0

"""One path, one method, one client at a time; and nobody can keep the others waiting."""

import contextlib
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.daemon.metrics import http

TEXT = b"numad_acting 1.0\n"


@pytest.fixture
def ends():
    """Give the client's and the server's end of a connection."""
    client, server = socket.socketpair()
    client.settimeout(10)
    with client, server:
        yield client, server


def asked(ends, request, text=TEXT):
    """Send a request; give the first line and the body of what comes back."""
    client, server = ends
    client.sendall(request)
    http.answer(server, lambda: text)
    server.close()
    head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0].decode(), body


@pytest.mark.parametrize("path", ["/metrics", "/metrics?collect=all"])
def test_the_metrics_are_given_to_who_gets_them(ends, path):
    line, body = asked(ends, f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())

    assert (line, body) == ("HTTP/1.0 200 OK", TEXT)


@pytest.mark.parametrize(
    ("line", "header", "code"),
    [
        (b"GET /", b"", 404),
        (b"GET /metrics/../etc/passwd", b"", 404),
        (b"POST /metrics", b"", 501),
        (b"GET /" + 70000 * b"a", b"", 414),
        (b"GET /metrics", 200 * b"a: b\r\n", 431),
    ],
    ids=["root", "elsewhere", "post", "long", "many headers"],
)
def test_all_else_is_refused(ends, line, header, code):
    told, body = asked(ends, line + b" HTTP/1.1\r\n" + header + b"\r\n")

    assert (told.split()[1], TEXT in body) == (str(code), False)


@given(st.binary(max_size=300))
def test_whatever_is_sent_is_answered_or_not_and_the_next_is_served(sent):
    client, server = socket.socketpair()
    with client, server:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

        http.answer(server, lambda: TEXT)

        assert server.fileno() >= 0


def test_before_the_first_turn_there_is_nothing_to_give(ends):
    line, _ = asked(ends, b"GET /metrics HTTP/1.1\r\n\r\n", text=b"")

    assert line == "HTTP/1.0 503 The first turn has not ended"


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(ends):
    client, server = ends
    began_s, stop = time.monotonic(), threading.Event()

    def drip():
        with contextlib.suppress(BrokenPipeError):
            while not stop.wait(0.05):
                client.sendall(b"G")

    dripping = threading.Thread(target=drip)
    dripping.start()
    http.answer(server, lambda: TEXT, patience_s=0.3)
    stop.set()
    dripping.join()

    assert time.monotonic() - began_s > 0.2


def test_a_client_that_reads_nothing_is_cut_off(ends):
    client, server = ends
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

    began_s = time.monotonic()
    http.answer(server, lambda: 10**8 * b"a", patience_s=0.3)

    assert time.monotonic() - began_s > 0.2


def test_a_client_that_goes_away_is_no_trouble(ends):
    client, server = ends
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    client.close()

    http.answer(server, lambda: 10**7 * b"a")

    assert server.fileno() >= 0


def test_one_after_another_is_answered(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "metrics"))
        listening.listen()
        http.serve(listening, lambda: TEXT)

        told = [get(tmp_path / "metrics") for _ in range(3)]

    assert all(each.endswith(b"\r\n\r\n" + TEXT) for each in told)


def get(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))
