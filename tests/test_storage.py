"""What survives a restart: whole files, in a directory that one exporter has for itself, whoever it runs as."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wg_exporter.linux.privileges import User
from wg_exporter.linux.storage import BELOW, Storage, StorageError, open_storage, read_kept

STRANGER = User(65533, 65533)
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about other users")


@pytest.fixture
def storage(tmp_path):
    found = open_storage(str(tmp_path))
    assert found.problem == ""
    yield found
    found.close()


def test_a_file_is_read_as_it_was_written_and_replaced(storage):
    assert storage.read("a", 100) is None
    storage.write("a", b"one")
    storage.write("a", b"two")
    assert storage.read("a", 100) == b"two"
    assert {path.name for path in Path(storage.path, BELOW).iterdir()} == {"a"}


def test_lines_are_added_at_the_end_of_a_file_that_need_not_be_there(storage):
    storage.append("a", b"one\n")
    storage.append("a", b"two\n")
    assert storage.read("a", 100) == b"one\ntwo\n"
    storage.write("a", b"anew\n")
    storage.append("a", b"three\n")
    assert storage.read("a", 100) == b"anew\nthree\n"


def test_nothing_is_added_to_what_is_no_file_of_ours(storage, tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / BELOW / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / BELOW / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(StorageError, match=name):
            storage.append(name, b"x")
    assert (tmp_path / "precious").read_text() == "precious"


def test_whoever_may_read_what_an_exporter_keeps_needs_no_lock_and_makes_nothing(storage, tmp_path):
    storage.append("a", b"one\n")
    assert read_kept(str(tmp_path), "a", 100) == b"one\n"
    assert read_kept(str(tmp_path), "b", 100) is None
    (tmp_path / "empty").mkdir()
    assert read_kept(str(tmp_path / "empty"), "a", 100) is None
    assert not any((tmp_path / "empty").iterdir())
    with pytest.raises(OSError, match="more than 3 bytes"):
        read_kept(str(tmp_path), "a", 3)


def test_what_a_killed_writer_left_is_in_nobodys_way(storage, tmp_path):
    (tmp_path / BELOW / ".a.new").write_bytes(b"half")
    storage.write("a", b"whole")
    assert storage.read("a", 100) == b"whole"


def test_a_file_that_is_too_long_or_no_file_is_not_read(storage, tmp_path):
    storage.write("a", b"12345")
    with pytest.raises(StorageError, match="more than 4 bytes"):
        storage.read("a", 4)
    (tmp_path / BELOW / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / BELOW / "fifo")
    (tmp_path / BELOW / "directory").mkdir()
    for name in ("link", "fifo", "directory"):
        with pytest.raises(StorageError, match=name):
            storage.read(name, 1000)


def test_a_file_is_set_aside_in_place_of_an_earlier_one(storage):
    for text in (b"one", b"two"):
        storage.write("a", text)
        assert storage.set_aside("a") == "a.bad"
    assert storage.read("a", 100) is None
    assert storage.read("a.bad", 100) == b"two"


def test_without_the_directory_there_is_a_problem_that_says_what_to_do_and_nothing_fails(tmp_path):
    found = open_storage(str(tmp_path / "none"))
    assert found.problem == (
        f"there is no directory {tmp_path}/none; make it (the systemd unit does), or name another with --storage.path"
    )
    with pytest.raises(StorageError, match="there is no directory"):
        found.write("a", b"")
    found.close()


def test_without_a_path_there_is_none_and_nothing_is_wrong():
    found = open_storage("")
    assert (found.path, found.problem) == ("", "no --storage.path is given")


def test_a_second_exporter_leaves_it_to_the_first(tmp_path, storage):
    assert "another wg-exporter keeps its state there" in open_storage(str(tmp_path)).problem
    storage.close()
    second = open_storage(str(tmp_path))
    assert second.problem == ""
    second.close()


def test_a_full_disk_is_a_problem_in_one_line_and_the_old_file_stays(storage, monkeypatch):
    storage.write("a", b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"exporter/a: No space left on device$"):
        storage.write("a", b"new")
    monkeypatch.undo()
    assert storage.read("a", 100) == b"old"


@root
def test_another_user_without_any_right_writes_there_and_nobody_else_gets_in(tmp_path):
    tmp_path.chmod(0o700)
    found = open_storage(str(tmp_path), STRANGER)
    below = (tmp_path / BELOW).stat()
    assert (below.st_uid, below.st_gid, stat.S_IMODE(below.st_mode)) == (0, STRANGER.gid, 0o770)
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setresgid(*[STRANGER.gid] * 3)
            os.setresuid(*[STRANGER.uid] * 3)
            found.write("a", b"theirs")
            os._exit(0 if found.read("a", 100) == b"theirs" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found.close()
    again = open_storage(str(tmp_path))  # one process, as root: it reads the same
    assert again.read("a", 100) == b"theirs"
    again.write("a", b"ours")
    again.close()
    once_more = open_storage(str(tmp_path), User(65534, 65534))  # somebody made the user meanwhile
    assert (tmp_path / BELOW).stat().st_gid == 65534
    once_more.close()


def test_a_directory_that_may_not_be_entered_is_a_problem_that_says_what_to_do(tmp_path, monkeypatch):
    def denied(*_args: object, **_more: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    found = open_storage(str(tmp_path))
    assert found.problem == (
        f"{tmp_path}: permission denied; run as root, or name a directory of your own with --storage.path"
    )


@root
def test_a_directory_of_somebody_else_is_not_trusted(tmp_path):
    (tmp_path / BELOW).mkdir()
    os.chown(tmp_path / BELOW, STRANGER.uid, 0)
    assert "it belongs to the user 65533" in open_storage(str(tmp_path)).problem


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / BELOW).symlink_to(tmp_path / "elsewhere")
    assert open_storage(str(tmp_path)).problem.startswith(f"{tmp_path}/{BELOW}: ")


WRITES = """
import itertools, sys
from wg_exporter.linux.storage import open_storage
storage = open_storage(sys.argv[1])
for number in itertools.count():
    storage.write("a", (b"%d" % (number % 10)) * 200_000)
    print(number, flush=True)
"""


def test_whoever_is_killed_at_any_moment_of_a_write_leaves_a_whole_file(tmp_path):
    for pause in (0.0, 0.001, 0.002, 0.003, 0.005, 0.008, 0.013, 0.021):
        writer = subprocess.Popen([sys.executable, "-c", WRITES, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"0\n"
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
        writer.stdout.close()
        found = open_storage(str(tmp_path))
        assert found.problem == ""
        data = found.read("a", 1 << 20)
        assert data is not None
        assert len(data) == 200_000
        assert len(set(data)) == 1
        found.close()


def test_what_is_closed_says_so():
    found = Storage()
    found.close()
    with pytest.raises(StorageError):
        found.read("a", 1)
