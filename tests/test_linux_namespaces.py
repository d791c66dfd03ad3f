"""Entering network namespaces: real ones, made and removed here, each entered by a thread of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.openfiles import open_files
from wg_exporter.linux.errors import NamespaceGoneError, SourceError
from wg_exporter.linux.namespaces import Entrance
from wg_exporter.reader.links.links import LinkReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.anyone import Anyone

NAMESPACES = Path("/run/netns")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def netns() -> Iterator[str]:
    """A namespace with a tun device that no other has."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and ip (iproute2)")
    name = f"wgns-{secrets.token_hex(3)}"
    make(name)
    try:
        yield name
    finally:
        if (NAMESPACES / name).exists():
            ip("netns", "del", name)


def make(name: str, device: str = "first") -> None:
    ip("netns", "add", name)
    ip("-n", name, "tuntap", "add", device, "mode", "tun")


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """One thread that may go elsewhere, for this process stays where it is."""
    before = str(Path("/proc/self/ns/net").readlink())
    with ThreadPoolExecutor(1) as pool:
        yield pool
    assert str(Path("/proc/self/ns/net").readlink()) == before


def here() -> str:
    return str(Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").readlink())


@pytest.mark.lab
def test_the_calling_thread_alone_enters(netns: str, thread: ThreadPoolExecutor) -> None:
    outside = here()
    namespace = Entrance("blue", str(NAMESPACES / netns))
    assert thread.submit(namespace.enter).result(30) is True
    inode = (NAMESPACES / netns).stat().st_ino
    assert thread.submit(here).result(30) == f"net:[{inode}]"
    assert here() == outside


@pytest.mark.lab
def test_entering_again_is_no_move_while_it_is_the_same_namespace(netns: str, thread: ThreadPoolExecutor) -> None:
    namespace = Entrance("blue", str(NAMESPACES / netns))
    assert [thread.submit(namespace.enter).result(30) for _ in range(3)] == [True, False, False]


@pytest.mark.lab
def test_what_is_read_afterwards_is_of_that_namespace(netns: str, thread: ThreadPoolExecutor) -> None:
    namespace, links = Entrance("blue", str(NAMESPACES / netns)), LinkReader()
    thread.submit(namespace.enter).result(30)
    assert [link.name for link in thread.submit(links.read).result(30)] == ["first"]
    thread.submit(links.close).result(30)


@pytest.mark.lab
def test_a_namespace_made_anew_under_the_same_name_is_entered_anew(netns: str, thread: ThreadPoolExecutor) -> None:
    namespace, links = Entrance("blue", str(NAMESPACES / netns)), LinkReader()
    thread.submit(namespace.enter).result(30)
    thread.submit(links.read).result(30)
    ip("netns", "del", netns)
    with pytest.raises(SourceError, match="does not exist"):
        thread.submit(namespace.enter).result(30)
    make(netns, "second")
    assert thread.submit(namespace.enter).result(30) is True
    thread.submit(links.close).result(30)
    assert [link.name for link in thread.submit(links.read).result(30)] == ["second"]
    thread.submit(links.close).result(30)


@pytest.mark.lab
def test_a_namespace_is_entered_by_the_pid_of_a_process_in_it(netns: str, thread: ThreadPoolExecutor) -> None:
    with subprocess.Popen(["ip", "netns", "exec", netns, "sleep", "30"]) as process:
        try:
            path = f"/proc/{process.pid}/ns/net"
            inode = (NAMESPACES / netns).stat().st_ino
            for _ in range(200):
                if str(Path(path).readlink()) == f"net:[{inode}]":
                    break
                threading.Event().wait(0.02)
            thread.submit(Entrance("blue", path).enter).result(30)
            assert thread.submit(here).result(30) == f"net:[{inode}]"
        finally:
            process.kill()


@pytest.mark.lab
def test_no_file_stays_open(netns: str, tmp_path: Path, thread: ThreadPoolExecutor) -> None:
    (tmp_path / "plain").touch()
    namespace, wrong = Entrance("blue", str(NAMESPACES / netns)), Entrance("red", str(tmp_path / "plain"))
    thread.submit(namespace.enter).result(30)
    with pytest.raises(SourceError):
        thread.submit(wrong.enter).result(30)
    before = open_files()  # each holds its way back
    for _ in range(5):
        thread.submit(namespace.enter).result(30)
        with pytest.raises(SourceError):
            thread.submit(wrong.enter).result(30)
    assert not open_files() - before


def test_a_path_that_is_not_there_is_named_with_the_fix() -> None:
    with pytest.raises(SourceError) as caught:
        Entrance("blue", "/run/netns/no-such").enter()
    assert str(caught.value) == (
        "namespace blue: /run/netns/no-such does not exist; start what makes it, or take it out of `namespaces`"
    )


def test_a_pid_that_has_ended_does_not_exist() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(SourceError, match="does not exist"):
        Entrance("blue", f"/proc/{ended.pid}/ns/net").enter()


def lacks_rights() -> bool:
    return os.geteuid() != 0


@pytest.mark.skipif(lacks_rights(), reason="without CAP_SYS_ADMIN the kernel says so before it looks; run as root")
@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "other"])
def test_what_is_not_a_network_namespace_is_told_and_never_waited_for(
    kind: str, tmp_path: Path, thread: ThreadPoolExecutor
) -> None:
    path = tmp_path / "thing"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path = Path("/proc/self/ns/uts")
    before = thread.submit(here).result(30)
    with pytest.raises(SourceError) as caught:
        thread.submit(Entrance("blue", str(path)).enter).result(30)
    assert str(caught.value) == f"namespace blue: {path} is not a network namespace"
    assert thread.submit(here).result(30) == before


@pytest.mark.lab
@pytest.mark.parametrize("who", ["root", "nobody"])
def test_no_permission_says_what_to_grant(netns: str, who: str, anyone: Anyone) -> None:
    script = f"""
        from wg_exporter.linux.errors import NamespaceDeniedError
        from wg_exporter.linux.namespaces import Entrance
        try:
            Entrance("blue", "/run/netns/{netns}").enter()
        except NamespaceDeniedError as error:
            print(error)
    """
    drop = ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    if who == "nobody":
        drop = ["--reuid=65534", "--regid=65534", "--clear-groups", *drop]
    said = subprocess.run(
        ["setpriv", *drop, anyone.python, "-c", textwrap.dedent(script)],
        cwd="/",
        env={**os.environ, **anyone.env},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert re.fullmatch(rf"namespace blue: /run/netns/{netns}: no permission; grant CAP_SYS_ADMIN, and .*\n", said)


@pytest.mark.lab
def test_a_namespace_that_was_deleted_is_left_for_a_thread_in_it_keeps_it_alive(
    netns: str, thread: ThreadPoolExecutor
) -> None:
    outside = here()
    namespace = Entrance("blue", str(NAMESPACES / netns))
    assert thread.submit(namespace.enter).result(30) is True
    ip("netns", "del", netns)
    with pytest.raises(NamespaceGoneError, match="does not exist"):
        thread.submit(namespace.enter).result(30)
    assert thread.submit(here).result(30) == outside


@pytest.mark.lab
def test_entering_starts_no_other_program(netns: str) -> None:
    code = """
        import sys
        started = []
        sys.addaudithook(lambda event, _: started.append(event) if event in ("subprocess.Popen", "os.exec") else None)
        from wg_exporter.linux.namespaces import Entrance
        Entrance("blue", sys.argv[1]).enter()
        print(started)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(NAMESPACES / netns)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout == "[]\n"
