"""The supervisor, with an exporter that asks for what it must not, or does not end: a process of its own for each."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.openfiles import open_files
from wg_exporter.messages.channel import ConnectionEndedError
from wg_exporter.messages.packets import MOST_FILES, Packets
from wg_exporter.messages.supervisor import FromSupervisor, Kill, Load, Role, Start, Started, ToSupervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import json, os, select, signal, socket, sys, time
from pathlib import Path
from wg_exporter import log
from wg_exporter.config import Config
from wg_exporter.messages.packets import Packets
from wg_exporter.messages.supervisor import *
from wg_exporter.supervisor.parent import Parent
from wg_exporter.supervisor import parent

def role(config):
    def body(sock):
        sock.sendall(b"here")
        sock.recv(1)  # until it is closed
    return body

class Talk:
    def __init__(self, sock):
        self.packets = Packets(sock, FromSupervisor)
    def send(self, message, files=()):
        self.packets.send(message, files)
    def hear(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.packets.receive()
            if found is not None and not isinstance(found[0], Cost):
                return found[0] if not found[1] else found
            time.sleep(0.005)
    def start(self, role=Role.READER, configuration=0, request=1):
        ours, theirs = socket.socketpair()
        self.send(Start(request, role, configuration), (theirs.fileno(),))
        theirs.close()
        return ours, self.hear()

def say(**what):
    print(json.dumps(what), flush=True)

def finish():
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(30)

log.setup("info", "logfmt")
file = Path(sys.argv[1]) if len(sys.argv) > 1 else None
"""


class Ran:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.log = done.returncode, done.stderr
        self.said = [json.loads(line) for line in done.stdout.splitlines()]


def ran(body: str, *arguments: str, settings: str = "") -> Ran:
    """What became of a supervisor whose exporter does this, and is ended after it."""
    code = (
        PROGRAM
        + settings
        + "\ndef exporter(sock):\n    talk = Talk(sock)\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    code += "\n    finish()\nsys.exit(Parent(Config(), file, {Role.READER: role, Role.PROBER: role}).run(exporter))\n"
    command = [sys.executable, "-c", code, *arguments]
    return Ran(subprocess.run(command, capture_output=True, text=True, timeout=90, check=False))


def test_it_starts_what_is_asked_for_and_tells_how_it_ends():
    found = ran("""
        ours, told = talk.start()
        here = ours.recv(10).decode()
        say(here=here, pid=told.pid > 0, problem=told.problem)
        ours.close()
        ended = talk.hear()
        say(same=ended.pid == told.pid, code=ended.code)
        ours, told = talk.start(request=2, configuration=0) if time.sleep(0.3) is None else None
        talk.send(Kill(told.pid))
        say(code=talk.hear().code)
        return 3
    """)
    assert found.said == [{"here": "here", "pid": True, "problem": ""}, {"same": True, "code": 0}, {"code": -9}]
    assert (found.code, found.log) == (3, "")


def test_there_is_one_of_each_for_a_configuration_and_not_too_often():
    found = ran(
        """
        first, told = talk.start()
        again, refused = talk.start(request=2)
        prober, other = talk.start(Role.PROBER, request=3)
        first.close()
        talk.hear()
        soon, early = talk.start(request=4)
        unknown, nothing = talk.start(configuration=7, request=5)
        say(problems=[refused.problem, other.problem, early.problem, nothing.problem])
        """,
        settings="parent.LEAST_PAUSE = 60.0",
    )
    assert found.said == [{
        "problems": [
            "a reader for this configuration runs already", "", "a reader was started a moment ago",
            "there is no such configuration",
        ]
    }]  # fmt: skip


def test_it_kills_only_what_it_has_started():
    found = ran("""
        other = os.fork()
        if not other:
            time.sleep(30)
            os._exit(0)
        talk.send(Kill(other))
        talk.send(Kill(os.getppid()))
        talk.send(Kill(1))
        time.sleep(0.3)
        say(gone=os.waitpid(other, os.WNOHANG)[0])
        os.kill(other, signal.SIGKILL)
    """)
    assert found.said == [{"gone": 0}]
    assert found.code == 0


@pytest.mark.parametrize("bad", ["b'nonsense'", "b'\\xc1'", "b'x' * 1000", "b'\\x91\\xa4Load'"])
def test_an_exporter_that_says_what_is_no_message_is_ended(bad):
    begun = time.monotonic()
    found = ran(f"""
        sock.send({bad})
        time.sleep(30)
    """)
    assert time.monotonic() - begun < 25
    assert found.code == 128 + 15
    assert 'msg="the exporter is ended"' in found.log


def test_one_that_does_not_end_is_killed():
    found = ran(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(30)
        """,
        settings="parent.STOP_TIMEOUT = 0.5",
    )
    assert found.code == 128 + 9
    assert 'msg="the exporter does not end, and is killed"' in found.log


def test_children_that_do_not_end_are_killed_too():
    found = ran(
        """
        ours, told = talk.start()
        ours.recv(10)
        os.kill(told.pid, signal.SIGSTOP)
        say(pid=told.pid)
        """,
        settings="parent.END_TIMEOUT = 0.3",
    )
    with pytest.raises(ProcessLookupError):
        os.kill(found.said[0]["pid"], 0)
    assert found.code == 0


def test_it_reads_the_configuration_again_and_hands_its_text_over(tmp_path: Path):
    file = tmp_path / "config.yml"
    file.write_text("names: []\n")
    found = ran(
        """
        talk.send(Load(1))
        message, files = talk.hear()
        say(number=message.configuration, text=os.pread(files[0], 100, 0).decode())
        file.write_text("nonsense: 1")
        talk.send(Load(2))
        bad = talk.hear()
        say(number=bad.configuration, problems=[str(one) for one in map(parent.ConfigError, [bad.problems])])
        ours, told = talk.start(configuration=1, request=3)
        say(problem=told.problem)
        """,
        str(file),
    )
    assert found.said[0] == {"number": 1, "text": "names: []\n"}
    assert found.said[1]["number"] == 0
    assert found.said[1]["problems"][0].startswith(f"{file}:1: nonsense: is not a known key")
    assert found.said[2] == {"problem": ""}


def test_an_exporter_that_fails_is_one_line_without_what_it_said():
    found = ran("raise KeyError('a secret')")
    assert found.code == 1
    assert "unexpected KeyError" in found.log
    assert "secret" not in found.log
    assert len(found.log.splitlines()) == 1


# --- signals ---------------------------------------------------------------------------------------------------------


def test_an_exporter_that_ends_although_nobody_asked_for_that_is_a_failure_so_that_it_is_started_again():
    for how in ("return 0", "os.kill(os.getpid(), signal.SIGTERM)"):
        found = ran(how)
        assert found.code != 0, how
        assert len(found.log.splitlines()) == 1
        assert "level=error" in found.log


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_told_to_end_before_the_exporter_heeds_signals_it_ends_with_code_0(number):
    """By a signal to the whole group, too."""
    for who in ("os.getppid()", "0"):
        found = ran(f"os.kill({who}, signal.{number}); time.sleep(30)", settings="os.setpgid(0, 0)")
        assert (found.code, found.log) == (0, ""), who


def test_a_reload_that_comes_before_the_exporter_exists_reaches_it_and_ends_nobody():
    found = ran(
        """
        os.kill(0, signal.SIGHUP)
        blocked = [*signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        say(told=[type(talk.hear()).__name__ for _ in range(2)], blocked=blocked)
        """,
        settings=textwrap.dedent("""
            from wg_exporter.linux import signals
            signals.hold()
            os.setpgid(0, 0)
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), number)
        """),
    )
    assert found.said == [{"told": ["Reload", "Reload"], "blocked": []}]
    assert (found.code, found.log) == (0, "")


# --- an exporter that does not listen --------------------------------------------------------------------------------

DEAF = """
def shout(times=1200):
    for _ in range(times):
        os.kill(os.getppid(), signal.SIGHUP)
        time.sleep(0.002)

def heard(talk):
    kinds = []
    while (message := talk.hear(2)) is not None:
        kinds.append(message)
    return kinds
"""


def test_while_the_exporter_takes_nothing_no_end_of_a_process_is_lost_and_reloads_do_not_pile_up():
    found = ran(
        """
        ours, told = talk.start()
        shout()
        os.kill(told.pid, signal.SIGKILL)
        time.sleep(0.5)
        shout(50)
        kinds = heard(talk)
        say(ended=[(one.pid == told.pid, one.code) for one in kinds if isinstance(one, Ended)], reloads=len(kinds) - 1)
        """,
        settings=DEAF,
    )
    (said,) = found.said
    assert said["ended"] == [[True, -9]]
    assert said["reloads"] < 700, "the socket was not full"
    assert (found.code, found.log) == (0, "")


def test_while_the_exporter_takes_nothing_the_last_web_configuration_waits_for_it():
    found = ran(
        """
        message, files = talk.hear()
        shout()
        for text in ("second: 1", "third: 1"):
            web.write_text(text)
            time.sleep(0.4)
        texts = []
        while (message := talk.hear(2)) is not None:
            if isinstance(message, tuple):
                texts.append(os.pread(message[1][0], 100, 0).decode())
        say(texts=texts)
        """,
        settings=DEAF
        + textwrap.dedent("""
            import tempfile
            from wg_exporter.web.files import Material, WebFiles
            class Files(WebFiles):
                def read(self):
                    self._seen = self._signature()
                    return Material(self._path.read_text(), {})
            web = Path(tempfile.mkdtemp()) / "web.yml"
            web.write_text("first: 1")
            parent.LOOK_EVERY = 0.05
            plain = Parent
            Parent = lambda *asked: plain(*asked, web_files=Files(web))
        """),
    )
    assert found.said == [{"texts": ["third: 1"]}]
    assert found.code == 0


def test_an_exporter_that_asks_and_does_not_listen_gets_no_more_answers_until_it_does():
    found = ran(
        """
        asked = 0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                talk.send(Load(asked))
                asked += 1
            except ConnectionEndedError:
                time.sleep(0.01)
        size = int(Path(f"/proc/{os.getppid()}/statm").read_text().split()[1]) * 4096
        answers = [one.request for one in heard(talk)]
        say(all=answers == list(range(asked)), few=asked < 3000, small=size < 200 << 20)
        """,
        settings=DEAF + "from wg_exporter.messages.channel import ConnectionEndedError\n",
    )
    assert found.said == [{"all": True, "few": True, "small": True}]
    assert (found.code, found.log) == (0, "")


def test_of_all_processes_together_there_are_not_more_than_so_many():
    found = ran(
        """
        kept = [talk.start(), talk.start(Role.PROBER, request=2)]
        kept[0][0].close()
        talk.hear()
        third, told = talk.start(Role.READER, request=3) if time.sleep(0.3) is None else None
        fourth, refused = talk.start(Role.READER, 1, request=4)
        say(problems=[told.problem, refused.problem])
        """,
        settings="parent.MOST_CHILDREN = 2\nplain = Parent\ndef Parent(*asked):\n    made = plain(*asked)\n"
        "    made._configurations[1] = Config()\n    return made\n",
    )
    assert found.said == [{"problems": ["", "2 processes run already"]}]


# --- resolvers -------------------------------------------------------------------------------------------------------

RESOLVERS = """
from wg_exporter.supervisor import resolvers as links
from wg_exporter.supervisor.resolvers import Resolvers

def resolve(sock):  # says what it is asked, and by which process
    sock.settimeout(None)
    while asked := sock.recv(100):
        if asked == b"die":
            os._exit(3)
        if asked == b"shut":
            sock.shutdown(socket.SHUT_RDWR)
            os._exit(3)
        sock.send(asked + b" " + str(os.getpid()).encode())

found = Resolvers(resolve)

def reader(config):
    link = found.connect()
    def body(sock):
        names = link.take()
        names.settimeout(None)
        while asked := sock.recv(100):
            if asked == b"quietly":
                sock.send(b"yes")
                continue
            names.send(asked)
            sock.send(b"gone" if asked in (b"die", b"shut") else names.recv(100))
    return body

def children():
    return Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()

def sockets(pid):
    links = [os.path.realpath(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return {link for link in links if "socket:" in link}
"""


def resolving(body: str, settings: str = "") -> Ran:
    """As `ran`, with readers that have resolvers."""
    code = PROGRAM + RESOLVERS + settings + "\ndef exporter(sock):\n    talk = Talk(sock)\n"
    code += textwrap.indent(textwrap.dedent(body), "    ") + "\n    finish()"
    roles = "{Role.READER: reader, Role.PROBER: role}"
    code += f"\nsys.exit(Parent(Config(), file, {roles}, resolvers=found).run(exporter))\n"
    command = [sys.executable, "-c", code]
    return Ran(subprocess.run(command, capture_output=True, text=True, timeout=90, check=False))


def test_a_resolver_is_started_by_the_first_question_of_its_reader_and_ends_with_it():
    found = resolving("""
        ours, told = talk.start()
        ours.send(b"quietly")
        ours.recv(100)
        before = len(children())
        ours.send(b"name")
        first = ours.recv(100).decode().split()
        ours.send(b"other")
        second = ours.recv(100).decode().split()
        say(before=before, asked=[first[0], second[0]], same=first[1] == second[1], there=first[1] in children(),
            more=len(children()) - before)
        ours.close()
        talk.hear()
        end = time.monotonic() + 30
        while first[1] in children() and time.monotonic() < end:
            time.sleep(0.01)
        say(left=first[1] in children())
    """)
    first = {"before": 2, "asked": ["name", "other"], "same": True, "there": True, "more": 1}
    assert found.said == [first, {"left": False}]
    assert (found.code, found.log) == (0, "")


def test_a_resolver_that_ends_is_started_again_by_the_next_question_after_a_pause():
    found = resolving(
        """
        ours, told = talk.start()
        ours.send(b"name")
        first = ours.recv(100).split()[1]
        begun = time.monotonic()
        ours.send(b"die")
        ours.recv(100)
        ours.send(b"name")
        second = ours.recv(100).split()[1]
        say(another=first != second, waited=time.monotonic() - begun > 0.29)
        """,
        settings="links.FIRST_PAUSE = 0.3",
    )
    assert found.said == [{"another": True, "waited": True}]
    assert "the resolver of host names ended" in found.log


def test_the_exporter_can_neither_end_nor_hear_a_resolver():
    found = resolving("""
        ours, told = talk.start()
        ours.send(b"name")
        pid = int(ours.recv(100).split()[1])
        talk.send(Kill(pid))
        time.sleep(0.3)
        ours.send(b"name")
        say(same=int(ours.recv(100).split()[1]) == pid, shared=len(sockets("self") & sockets(pid)),
            sockets=len(sockets(pid)))
    """)
    assert found.said == [{"same": True, "shared": 0, "sockets": 1}]


def test_a_resolver_that_shuts_its_socket_down_keeps_nobody_busy():
    found = resolving(
        """
        spent = lambda: sum(map(int, Path(f"/proc/{os.getppid()}/stat").read_text().split()[13:17])) / 100
        ours, told = talk.start()
        ours.send(b"shut")
        ours.recv(100)
        time.sleep(0.2)
        before = spent()
        time.sleep(1.5)
        say(seconds=spent() - before, there=len(children()))
        """,
        settings="links.FIRST_PAUSE = 0.01",
    )
    assert found.said[0]["seconds"] < 0.3
    assert found.said[0]["there"] == 2


def test_when_all_ends_a_resolver_that_hangs_is_killed():
    found = resolving(
        """
        ours, told = talk.start()
        ours.send(b"name")
        pid = int(ours.recv(100).split()[1])
        os.kill(pid, signal.SIGSTOP)
        say(pid=pid)
        """,
        settings="parent.END_TIMEOUT = 0.3",
    )
    with pytest.raises(ProcessLookupError):
        os.kill(found.said[0]["pid"], 0)
    assert found.code == 0


# --- packets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Packets[ToSupervisor], Packets[FromSupervisor]]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one, other = Packets(ours, ToSupervisor), Packets(theirs, FromSupervisor)
    yield one, other
    one.close()
    other.close()


def test_a_message_brings_its_files(pair, tmp_path: Path):
    (tmp_path / "x").write_text("hello")
    with (tmp_path / "x").open() as file:
        pair[1].send(Start(1, Role.READER, 0), (file.fileno(),))
    message, files = pair[0].receive()
    assert message == Start(1, Role.READER, 0)
    assert os.read(files[0], 10) == b"hello"
    os.close(files[0])
    assert pair[0].receive() is None
    pair[0].send(Started(1, 5, ""))
    assert pair[1].receive() == (Started(1, 5, ""), [])


def test_too_many_files_end_it_and_none_stays_open(pair):
    before = open_files()
    pair[1].send(Kill(1), (0,) * (MOST_FILES + 8))
    with pytest.raises(ConnectionEndedError, match="too long"):
        pair[0].receive()
    assert not open_files() - before


@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_do_anything_else_than_end_it(data):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.closing(Packets(ours, ToSupervisor)) as packets, theirs:
        theirs.send(data)
        with contextlib.suppress(ConnectionEndedError):
            message, files = packets.receive()
            assert isinstance(message, (Start, Kill, Load))
            assert files == []
