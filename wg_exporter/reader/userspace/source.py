"""Userspace WireGuard devices: asks every daemon's UAPI socket, all at once, within one deadline.

A daemon (wireguard-go, boringtun, amneziawg-go) listens on `NAME.sock` in a directory of its kind. One that hangs must
not delay the others, so nothing here blocks: all sockets are asked at the start and read as they answer, and what has
not answered at the deadline has failed, alone. Answers are taken apart (uapi.py) only after the last byte is in, so
that a large device does not eat the time of a slow one.

The answers hold private keys. They live in one buffer each, which is overwritten before `read` returns.
"""

from __future__ import annotations

import selectors
import socket
import stat
import time
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.model import Backend, Device, FailedDevice, Failure, Peers
from wg_exporter.reader.userspace.secrets import digested, overwrite
from wg_exporter.reader.userspace.uapi import MAX_PEERS, Answer, DecodeError, KeptPeer, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.reader.keys import KeyLooks

DIRECTORIES: Mapping[Backend, Sequence[str]] = MappingProxyType(
    {Backend.USERSPACE: ("/var/run/wireguard",), Backend.AMNEZIAWG: ("/var/run/amneziawg",)}
)
MAX_ANSWER = 32 << 20  # bytes; 65,536 peers with two allowed IPs each are 25 MiB
MAX_ANSWERS = 40 << 20  # bytes of all devices
MAX_AT_ONCE = 256  # sockets; keeps the daemon far from its limit of open files
DECODING = 0.3  # seconds for all answers together, after the time for asking
CONNECT_AGAIN = 0.01  # seconds; a full backlog can be waited for in no other way
NEEDS_ROOT = "permission denied; run as root, to whom the UAPI sockets belong"


class _State(Enum):
    WAITING = "waiting"
    ANSWERED = "answered"
    FAILED = "failed"
    LEFTOVER = "leftover"  # a socket without a daemon
    GONE = "gone"  # vanished since the directory was listed


class UserspaceSource:
    """Reads the userspace devices of the host. Not for several threads at once: the last read is kept, to compare.

    `wanted` is asked with the name of each device. `timeout` is in seconds, for all devices together. With `looks`, it
    gives the digests of keys to that, when they are due.
    """

    def __init__(
        self,
        directories: Mapping[Backend, Sequence[str]] = DIRECTORIES,
        wanted: Callable[[str], bool] = lambda _name: True,
        timeout: float = 2.0,
        looks: KeyLooks | None = None,
    ) -> None:
        self._looks = looks
        self._directories = directories
        self._wanted = wanted
        self._timeout = timeout
        self._known: dict[Path, dict[bytes, KeptPeer]] = {}
        self._peers: dict[Path, Peers] = {}
        self._leftovers: tuple[str, ...] = ()
        self.left_out: frozenset[str] = frozenset()
        """The names of the devices that the last read found and that are not wanted."""
        self.doubles: tuple[str, ...] = ()
        """A line for each name for which the last read found daemons in more than one directory."""

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Paths of the sockets that the last read found without a daemon; a killed one leaves its socket behind."""
        return self._leftovers

    def read(self) -> tuple[list[Device], list[FailedDevice]]:
        """Read every device, in order of backend and name, with an empty `netns`.

        A directory that does not exist holds no devices. Raises SourceError if a directory cannot be listed,
        DeniedError if permission is denied on all there is.
        """
        found = [
            (backend, path)
            for backend, directories in self._directories.items()
            for directory in directories
            for path in _sockets(Path(directory))
        ]
        talks = [_Conversation(backend, path) for backend, path in found if self._wanted(path.stem)]
        self.left_out = frozenset(path.stem for _, path in found) - {talk.path.stem for talk in talks}
        try:
            begun = time.monotonic()
            if talks:
                _converse(talks, self._timeout)
            return self._rows(talks, lambda: time.monotonic() > begun + self._timeout + DECODING)
        finally:
            for talk in talks:
                talk.forget()

    def _rows(
        self, talks: Sequence[_Conversation], overdue: Callable[[], bool]
    ) -> tuple[list[Device], list[FailedDevice]]:
        self._decode(talks, overdue)
        devices: list[Device] = []
        failed: list[FailedDevice] = []
        known: dict[Path, dict[bytes, KeptPeer]] = {}
        read: dict[Path, Peers] = {}
        for talk in talks:
            before = self._known.get(talk.path, {})
            if talk.state is _State.ANSWERED and (answer := talk.decoded) is not None:
                peers = Peers.of(answer.peers, self._peers.get(talk.path))
                devices.append(Device("", talk.path.stem, talk.backend, *answer[:3], peers, opaque=answer.opaque))
                read[talk.path] = peers
                known[talk.path] = answer.known
            if talk.state is _State.FAILED:
                failed.append(FailedDevice("", talk.path.stem, talk.backend, talk.problem, talk.failure))
                known[talk.path] = before
        self._known, self._peers = known, read
        self._leftovers = tuple(str(talk.path) for talk in talks if talk.state is _State.LEFTOVER)
        self.doubles = tuple(_doubles(talks))
        denied = [talk for talk in talks if talk.failure is Failure.DENIED]
        if denied and not devices and len(denied) == len(failed):
            raise DeniedError(f"{denied[0].path}: {NEEDS_ROOT}")
        return devices, failed

    def _decode(self, talks: Sequence[_Conversation], overdue: Callable[[], bool]) -> None:
        """The short answers first, so that a hostile one takes the time of no other."""
        for talk in sorted(talks, key=lambda one: len(one.answer)):
            if talk.state is _State.ANSWERED:
                try:
                    device, looks = (talk.path.stem, talk.backend), self._looks
                    if looks and looks.due(*device):
                        looks.keep(*device, digested(talk.answer, looks.digests, MAX_PEERS))
                    talk.decoded = decode(talk.answer, talk.answered_at_ns, self._known.get(talk.path, {}), overdue)
                except DecodeError as error:
                    talk.fail(f"its answer cannot be used: {error}")
                talk.wipe()


@contextmanager
def whole_answer(backend: Backend, path: Path, timeout: float = 2.0) -> Iterator[bytearray]:
    """The answer of one daemon with all its secrets, which is overwritten after the block. Raises SourceError."""
    talk = _Conversation(backend, path)
    try:
        _converse([talk], timeout)
        if talk.state is not _State.ANSWERED:
            kind = DeniedError if talk.failure is Failure.DENIED else SourceError
            raise kind(f"{path}: {talk.problem or 'no daemon answers there'}")
        yield talk.answer
    finally:
        talk.forget()


def _doubles(talks: Sequence[_Conversation]) -> Iterator[str]:
    """Which names have several daemons, of which the first that answers is shown; and how each of them is."""
    named: dict[str, list[_Conversation]] = {}
    for talk in talks:
        if talk.state in {_State.ANSWERED, _State.FAILED}:
            named.setdefault(talk.path.stem, []).append(talk)
    for name, several in named.items():
        if len(several) > 1:
            shown = next((talk for talk in several if talk.state is _State.ANSWERED), None)
            said = (f"{talk.path} ({'shown' if talk is shown else talk.problem or 'not shown'})" for talk in several)
            yield f"{name}: several daemons have this name, so rename all but one: {' and '.join(said)}"


class _Conversation:
    """One question to one daemon, and its answer as far as it came."""

    def __init__(self, backend: Backend, path: Path) -> None:
        self.backend = backend
        self.path = path
        self.state = _State.WAITING
        self.problem = ""
        self.failure = Failure.OTHER
        self.socket: socket.socket | None = None
        self.answer = bytearray()
        self.answered_at_ns = 0
        self.decoded: Answer | None = None

    def ask(self) -> bool:
        """Connect and ask. False if the daemon's backlog is full, which is no failure before the deadline."""
        try:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.socket.connect(str(self.path))
            self.socket.sendall(b"get=1\n\n")  # seven bytes always fit into a new socket's buffer
        except BlockingIOError:
            self.close()
            return False
        except ConnectionRefusedError:
            self.state = _State.LEFTOVER
        except FileNotFoundError:
            self.state = _State.GONE
        except PermissionError:
            self.fail(NEEDS_ROOT, Failure.DENIED)
        except OSError as error:
            self.fail(f"cannot ask its daemon: {error.strerror or error}")
        return True

    def receive(self, scratch: bytearray) -> None:
        """Take what has come. The answer ends with an empty line or, from some daemons, with the connection."""
        if self.socket is None:
            return
        try:
            count = self.socket.recv_into(scratch)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(f"its daemon hung up: {error.strerror or error}")
            return
        searched = max(0, len(self.answer) - 1)
        with memoryview(scratch) as view:
            self.answer += view[:count]
        if count == 0 or self.answer.find(b"\n\n", searched) != -1:
            self.state = _State.ANSWERED
            self.answered_at_ns = time.time_ns()
        elif len(self.answer) > MAX_ANSWER:
            self.fail(f"its daemon sent more than {MAX_ANSWER >> 20} MiB")

    def fail(self, problem: str, failure: Failure = Failure.OTHER) -> None:
        self.state = _State.FAILED
        self.problem = problem
        self.failure = failure

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def wipe(self) -> None:
        """Overwrite the answer, and let go of its memory."""
        overwrite(self.answer)
        self.answer = bytearray()

    def forget(self) -> None:
        self.close()
        self.wipe()


def _converse(talks: Sequence[_Conversation], timeout: float) -> None:
    """Bring every conversation out of WAITING, in less than `timeout` seconds and a little."""
    deadline = time.monotonic() + timeout
    to_ask = list(talks)
    scratch = bytearray(1 << 16)
    with selectors.DefaultSelector() as selector:
        while (left := deadline - time.monotonic()) > 0 and (to_ask or selector.get_map()):
            to_ask = _ask(to_ask, selector)
            if not to_ask and not selector.get_map():
                break
            for key, _ in selector.select(min(left, CONNECT_AGAIN) if to_ask else left):
                talk: _Conversation = key.data
                talk.receive(scratch)
                if talk.state is _State.WAITING and sum(len(one.answer) for one in talks) > MAX_ANSWERS:
                    _fail_the_longest(talks, selector)
                elif talk.state is not _State.WAITING:
                    _end(talk, selector)
    overwrite(scratch)
    for talk in talks:
        if talk.state is _State.WAITING:
            talk.fail(f"its daemon did not answer within {timeout:g} s; restart it if it hangs", Failure.UNANSWERED)


def _fail_the_longest(talks: Sequence[_Conversation], selector: selectors.BaseSelector) -> None:
    talk = max((one for one in talks if one.state is _State.WAITING), key=lambda one: len(one.answer))
    talk.fail(f"its daemon sent {len(talk.answer) >> 20} MiB, and all together more than {MAX_ANSWERS >> 20} MiB")
    _end(talk, selector)


def _end(talk: _Conversation, selector: selectors.BaseSelector) -> None:
    """Listen to it no more. What a failed one sent is let go of at once."""
    if talk.socket is not None and talk.socket in selector.get_map():
        selector.unregister(talk.socket)
    talk.close()
    if talk.state is not _State.ANSWERED:
        talk.wipe()


def _ask(talks: Sequence[_Conversation], selector: selectors.BaseSelector) -> list[_Conversation]:
    """Ask as many as possible; those left over are to be asked again a little later."""
    again = []
    for talk in talks:
        if len(selector.get_map()) >= MAX_AT_ONCE or not talk.ask():
            again.append(talk)
        elif talk.state is _State.WAITING and talk.socket is not None:
            selector.register(talk.socket, selectors.EVENT_READ, talk)
        else:
            talk.close()
    return again


def _sockets(directory: Path) -> Iterator[Path]:
    """The sockets in it that are named like an interface, by name. Links are not followed."""
    try:
        for path in sorted(directory.iterdir()):
            if path.suffix == ".sock" and _is_interface_name(path.stem) and _is_socket(path):
                yield path
    except FileNotFoundError:
        return
    except PermissionError:
        raise DeniedError(f"{directory}: {NEEDS_ROOT}") from None
    except OSError as error:
        raise SourceError(f"{directory}: cannot be listed: {error.strerror}") from None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _is_interface_name(name: str) -> bool:
    """As the kernel has it (dev_valid_name, net/core/dev.c), and in printable UTF-8, for it becomes a label."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size < 16
        and name not in {".", ".."}
        and name.isprintable()
        and not any(c.isspace() or c in "/:" for c in name)
    )
