# SPDX-License-Identifier: Apache-2.0

"""Whatever clients say, as fast as they can or not at all, others are answered, and nothing of theirs piles up."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time

import pytest
from asyncvarlink import VarlinkInterface, VarlinkInterfaceRegistry, varlinkmethod
from structlog.testing import capture_logs

from numad_py.daemon import activation, control_socket
from numad_py.daemon.control_socket import AnotherDaemon, Server, alone, listening

USER = 1000
FLOOD = """
import contextlib, socket, sys
while True:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(sys.argv[1])
        client.send(b"x" * 100)
"""


class Echo(VarlinkInterface, name="io.numad.Echo"):
    """Says what it is told."""

    def __init__(self, uid):
        self._uid = uid

    @varlinkmethod(return_parameter="said")
    def Say(self, *, word: str) -> str:  # noqa: N802
        """Say it."""
        return f"{self._uid} says {word}"

    @varlinkmethod(return_parameter="words")
    def Much(self) -> str:  # noqa: N802
        """Say more than a socket holds."""
        return "x" * (4 << 20)

    @varlinkmethod
    def Fail(self) -> None:  # noqa: N802
        """Have a bug."""
        raise ZeroDivisionError


def registry(uid):
    interfaces = VarlinkInterfaceRegistry()
    interfaces.register_interface(Echo(uid))
    return interfaces


class Clients:
    """Who connects next is ``uid``."""

    def __init__(self, folder):
        self.path = folder / "control"
        self.uid = 0

    @contextlib.contextmanager
    def connected(self, uid):
        self.uid = uid
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.path))
            yield client

    def said(self, word, uid=0):
        """Say one word, and give what is answered."""
        with self.connected(uid) as client:
            client.sendall(call("Say", word=word))
            return received(client)


def call(method, **parameters):
    message = {"method": f"io.numad.Echo.{method}", "parameters": parameters}
    return json.dumps(message).encode() + b"\0"


def received(client):
    """Give the next reply; None where the connection was closed."""
    text = b""
    while not text.endswith(b"\0"):
        try:
            part = client.recv(1 << 16)
        except ConnectionResetError:
            return None
        if not part:
            return None
        text += part
    return json.loads(text[:-1])


def soon(question):
    """Give what is answered, if anything is within five seconds."""
    until_s = time.monotonic() + 5
    while not (answer := question()) and time.monotonic() < until_s:
        time.sleep(0.05)
    return answer


@pytest.fixture
def clients(tmp_path):
    clients = Clients(tmp_path)
    with Server(listening(tmp_path), registry, uid_of=lambda _connection: clients.uid):
        yield clients


def test_a_call_is_answered(clients):
    assert clients.said("well", uid=USER) == {"parameters": {"said": "1000 says well"}}


def test_calls_sent_at_once_are_answered_in_turn(clients):
    with clients.connected(0) as client:
        client.sendall(call("Say", word="a") + call("Say", word="b"))
        text = b""
        while text.count(b"\0") < 2:
            text += client.recv(4096)

    assert [json.loads(part)["parameters"]["said"] for part in text.split(b"\0")[:-1]] == [
        "0 says a",
        "0 says b",
    ]


def test_a_call_that_wants_no_answer_gets_none(clients):
    oneway = {"method": "io.numad.Echo.Say", "parameters": {"word": "a"}, "oneway": True}
    with clients.connected(0) as client:
        client.sendall(json.dumps(oneway).encode() + b"\0" + call("Say", word="b"))

        assert received(client) == {"parameters": {"said": "0 says b"}}


def test_the_answer_reaches_a_client_that_has_said_its_last_word(clients):
    with clients.connected(USER) as client:
        client.sendall(call("Say", word="bye"))
        client.shutdown(socket.SHUT_WR)

        assert received(client) == {"parameters": {"said": "1000 says bye"}}
        assert received(client) is None


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b'{"method": "io.numad.Nobody.Say"}', "org.varlink.service.InterfaceNotFound"),
        (b'{"method": "io.numad.Echo.Shout"}', "org.varlink.service.MethodNotFound"),
        (b'{"method": "io.numad.Echo.Say"}', "org.varlink.service.InvalidParameter"),
        (
            b'{"method": "io.numad.Echo.Say", "parameters": {"word": 3}}',
            "org.varlink.service.InvalidParameter",
        ),
        (
            b'{"method": "io.numad.Echo.Say", "parameters": {"word": "a", "\\u0000": 3}}',
            "org.varlink.service.InvalidParameter",
        ),
    ],
)
def test_what_cannot_be_called_is_an_error_by_varlinks_name(clients, message, error):
    with clients.connected(USER) as client:
        client.sendall(message + b"\0")

        assert received(client)["error"] == error


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b'{"method": 3}',
        b'{"method": "Say"}',
        b'{"method": "io.numad.Echo.__init__"}',
        b'{"method": "io.numad.Echo.Say", "parameters": []}',
        b'{"method": "io.numad.Echo.Say", "more": true, "oneway": true}',
        b'{"method": "\\ud800"}',
        b"[" * 10_000,
        b'{"a":' * 3000,
        b"1" * 5000,
    ],
)
def test_what_is_no_call_ends_the_connection_and_no_other(clients, message):
    with clients.connected(USER) as client:
        client.sendall(message + b"\0")

        assert received(client) is None
    assert clients.said("well")["parameters"] == {"said": "0 says well"}


def test_a_message_that_does_not_end_ends_the_connection(clients):
    with clients.connected(USER) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(100):
            client.sendall(b"x" * 4096)

        assert received(client) is None


def test_a_bug_of_ours_ends_the_connection_and_no_other(clients):
    with clients.connected(USER) as client:
        client.sendall(call("Fail"))

        assert received(client) is None
    assert clients.said("well")["parameters"] == {"said": "0 says well"}


def test_a_client_that_says_nothing_is_let_go(clients, monkeypatch):
    monkeypatch.setattr(control_socket, "PATIENCE_S", 0.2)

    with clients.connected(USER) as client:
        assert received(client) is None


def test_a_client_that_trickles_is_let_go(clients, monkeypatch):
    monkeypatch.setattr(control_socket, "PATIENCE_S", 0.3)

    began_s = time.monotonic()
    with clients.connected(USER) as client, contextlib.suppress(BrokenPipeError):
        while time.monotonic() - began_s < 40:
            client.sendall(b"x")
            time.sleep(0.05)

    assert time.monotonic() - began_s < 30


def test_a_client_that_does_not_read_is_let_go(clients, monkeypatch):
    monkeypatch.setattr(control_socket, "PATIENCE_S", 0.3)

    with clients.connected(USER) as client:
        client.sendall(call("Much"))
        time.sleep(1)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 16):
                taken += len(part)

    assert taken < 4 << 20


def test_one_user_has_few_connections_and_others_are_answered(clients):
    with contextlib.ExitStack() as opened:
        mine = [opened.enter_context(clients.connected(USER)) for _ in range(control_socket.CONNECTIONS)]
        mine[-1].sendall(call("Say", word="well"))
        assert received(mine[-1]) is not None

        assert clients.said("one more", uid=USER) is None
        assert clients.said("well", uid=USER + 1)["parameters"] == {"said": "1001 says well"}
    assert soon(lambda: clients.said("well", uid=USER)) == {"parameters": {"said": "1000 says well"}}


def test_root_is_answered_when_users_have_all_connections(clients):
    with contextlib.ExitStack() as opened:
        for number in range(control_socket.USERS_CONNECTIONS):
            user = USER + number // control_socket.CONNECTIONS
            client = opened.enter_context(clients.connected(user))
            client.sendall(call("Say", word="well"))
            assert received(client) is not None

        assert clients.said("well", uid=USER + 100) is None
        assert clients.said("well")["parameters"] == {"said": "0 says well"}


def test_a_user_who_asks_without_end_gets_few_answers(clients):
    with clients.connected(USER) as client:
        client.sendall(call("Say", word="a") * 100)
        client.settimeout(1)
        text, began_s = b"", time.monotonic()
        while time.monotonic() - began_s < 1:
            with contextlib.suppress(TimeoutError):
                text += client.recv(4096)

    assert 1 <= text.count(b"\0") <= 2 / control_socket.REST_S


@pytest.fixture
def flooders(tmp_path):
    """Give other processes that connect without end."""
    with contextlib.ExitStack() as running:
        yield lambda number: [running.enter_context(flooding(tmp_path / "control")) for _ in range(number)]


@contextlib.contextmanager
def flooding(path):
    with subprocess.Popen([sys.executable, "-c", FLOOD, path]) as flooder:
        yield flooder
        flooder.kill()


def test_root_is_answered_soon_while_a_user_connects_without_end(tmp_path, flooders):
    def uid_of(connection):
        pid = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
        return 0 if int.from_bytes(pid, sys.byteorder) == os.getpid() else USER

    with Server(listening(tmp_path), registry, uid_of=uid_of):
        flooders(3)
        time.sleep(0.5)
        began_s = time.monotonic()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "control"))
            client.sendall(call("Say", word="well"))
            answered = received(client)
        took_s = time.monotonic() - began_s

    assert answered == {"parameters": {"said": "0 says well"}}
    assert took_s < 30


def test_it_ends_while_clients_are_connected(tmp_path):
    clients = Clients(tmp_path)
    with contextlib.ExitStack() as opened:
        with Server(listening(tmp_path), registry):
            client = opened.enter_context(clients.connected(USER))
            client.sendall(call("Say", word="well"))
            assert received(client) is not None

        assert received(client) is None


def test_the_uid_is_that_of_whoever_connects(tmp_path):
    with listening(tmp_path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control"))
        connection, _ = listener.accept()
        with connection:
            assert control_socket.peer_uid(connection) == os.geteuid()


def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path):
    listening(tmp_path).close()

    with listening(tmp_path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control"))


def test_the_socket_that_systemd_opened_is_taken_and_none_of_our_own(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX) as opened:
        monkeypatch.setattr(activation, "sockets", lambda name: [opened] if name == "control" else [])

        assert listening(tmp_path) is opened
    assert list(tmp_path.iterdir()) == []


def test_every_user_may_connect(tmp_path):
    with listening(tmp_path):
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o666


def test_a_second_daemon_is_refused_in_a_sentence_and_may_begin_once_the_first_has_ended(tmp_path):
    with (
        alone(tmp_path),
        pytest.raises(AnotherDaemon, match=r"another daemon runs: .*/lock"),
        alone(tmp_path),
    ):
        pass

    with alone(tmp_path):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_it_makes_may_be_entered_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        with alone(tmp_path / "run"):
            assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_without_a_descriptor_it_waits_and_goes_on(clients, monkeypatch):
    monkeypatch.setattr(control_socket, "PAUSE_S", 0.1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    with socket.socket(socket.AF_UNIX) as client, capture_logs() as log:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            client.connect(str(clients.path))
            time.sleep(0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        client.sendall(call("Say", word="well"))
        answer = received(client)

    assert answer == {"parameters": {"said": "0 says well"}}
    assert {line["why"] for line in log} == {"[Errno 24] Too many open files"}


def test_the_lock_does_not_follow_a_link(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "another's")

    with pytest.raises(OSError, match="symbolic"), alone(tmp_path):
        pass
