"""The journal on the disk: across restarts, of a process that is killed at any point of a write, on disks that fail."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time

import pytest

from tests.rows import WALL, FakeTime, key
from tests.serving import eventually
from wg_exporter.daemon import journal as journals
from wg_exporter.daemon.journal import Journal
from wg_exporter.events import MOST, NOT_STOPPED, Kind, Life, Process, event
from wg_exporter.events.file import MOST_LINES, NAME, decode, encode
from wg_exporter.events.words import sentence
from wg_exporter.linux.storage import BELOW, Storage, open_storage, read_kept


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(journals, "PACE", 0.0)


@pytest.fixture
def kept(tmp_path):
    """Makes journals one after the other, as processes do."""
    made: list[tuple[Journal, Storage]] = []

    def journal() -> Journal:
        close()
        storage = open_storage(str(tmp_path))
        assert storage.problem == ""
        made.append((Journal(FakeTime().clock, storage), storage))
        return made[-1][0]

    def close() -> None:
        for one, storage in made:
            one.stop()
            storage.close()
        made.clear()

    yield journal
    close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / BELOW / NAME


def down(n=1, text="3 initiations came from it"):
    return event(Kind.STATE, WALL + n, ("", "wg0"), public_key=key(n), before="up", after="down", evidence=text)


def names(journal):
    """The peers of the states that are known."""
    return [one.public_key for one in journal.read()[0] if one.kind is Kind.STATE]


def written(journal):
    """Wait until nothing is left to write."""
    eventually(lambda: journal._writer is None)


def told(caplog, *events):
    lines = [(line.getMessage(), line.fields) for line in caplog.records if line.getMessage() in events]
    caplog.clear()
    return lines


# --- across restarts --------------------------------------------------------------------------------------------------


def test_what_happened_is_known_after_a_restart_and_numbers_go_on(kept):
    first = kept()
    first.add([down(1), down(2)])
    first.add([down(3)])
    second = kept()
    assert names(second) == [key(1), key(2), key(3)]
    second.add([down(4)])
    assert [one.number for one in second.read()[0]] == [1, 2, 3, 4]
    assert second.read(3)[1] == 4


def test_a_start_says_whether_the_one_before_was_stopped_or_killed(kept, tmp_path):
    first = kept()
    first.start("1.2.3")
    first.stop()
    second = kept()
    second.start("1.2.3")
    written(second)
    second._started = False  # as if it was killed
    third = kept()
    third.start("1.2.3")
    rows = [one for one in third.read()[0] if one.process is Process.EXPORTER]
    assert [(one.after, one.reason) for one in rows] == [
        (Life.STARTED, ""), (Life.STOPPED, ""), (Life.STARTED, ""), (Life.STARTED, NOT_STOPPED)
    ]  # fmt: skip
    assert "it was killed" in sentence(rows[-1])


def test_without_a_directory_it_is_known_until_the_end_of_the_process(tmp_path):
    found = Journal(FakeTime().clock, open_storage(str(tmp_path / "none")))
    found.add([down()])
    assert names(found) == [key(1)]
    assert found._writer is None
    assert found.problem().startswith(f"there is no directory {tmp_path}/none; make it")
    found.stop()


def test_where_nobody_asked_for_a_directory_it_is_no_problem_that_there_is_none():
    found = Journal(FakeTime().clock, open_storage(""))
    found.add([down()])
    assert found.problem() == ""
    found.stop()


def test_the_file_is_bounded_and_so_is_what_is_read_of_it(kept, file):
    found = kept()
    for n in range(0, 3 * MOST_LINES, 10):
        found.add([down(m) for m in range(n, n + 10)])
    written(found)
    assert MOST <= len(file.read_bytes().splitlines()) <= MOST_LINES
    assert len(kept().read()[0]) == MOST


def test_whoever_looks_at_the_file_while_an_exporter_writes_it_sees_whole_lines(kept, tmp_path):
    found = kept()
    found.add([down(1), down(2)])
    written(found)
    assert len(decode(read_kept(str(tmp_path), NAME, 1 << 20)).events) == 2
    assert read_kept(str(tmp_path), "none", 1 << 20) is None


# --- killed -----------------------------------------------------------------------------------------------------------


def forked(work):
    """Runs this in a process of its own. Returns the signal that ended it, or minus its exit code."""
    pid = os.fork()
    if not pid:
        code = 2
        with contextlib.suppress(BaseException):
            gc.disable()
            work()
            code = 0
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return signal.Signals(-code) if code < 0 else code


def append(path, *events):
    """Add events to the journal there, to the end of the write."""
    storage = open_storage(str(path))
    found = Journal(FakeTime().clock, storage)
    for one in events:
        found.add([one])
        while found._writer is not None:
            time.sleep(0.0005)


def test_killed_after_any_byte_of_a_line_nothing_but_that_line_is_lost(kept, tmp_path, file, monkeypatch):
    first = kept()
    first.add([down(1), down(2), down(3)])
    written(first)
    first.stop()
    first._storage.close()
    before = file.read_bytes()
    line = encode([down(4)])
    seen = set()
    write = os.write
    for taken in range(len(line) + 20):
        file.write_bytes(before)

        def torn(handle, data, taken=taken):
            write(handle, bytes(data[:taken]))
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(os, "write", torn)
        ended = forked(lambda: append(tmp_path, down(4)))
        monkeypatch.undo()
        monkeypatch.setattr(journals, "PACE", 0.0)
        assert ended == signal.SIGKILL
        data = file.read_bytes()
        assert data.startswith(before)
        whole = len(data) - len(before) >= len(line) - 1  # all but the newline
        seen.add(whole)
        found = kept()
        assert names(found) == [key(1), key(2), key(3), *([key(4)] if whole else [])], taken
        found.add([down(5)])  # and it goes on as if nothing had been
        written(found)
        again = kept()
        assert names(again) == [key(1), key(2), key(3), *([key(4)] if whole else []), key(5)], taken
        again.stop()
        again._storage.close()
        assert decode(file.read_bytes()).torn is False
    assert seen == {True, False}


CALLS = ("open", "fchmod", "write", "fsync", "rename", "unlink", "close")


@pytest.mark.parametrize("anew", [False, True], ids=["adding a line", "writing all anew"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_call_of_a_write_nothing_of_before_is_lost(kept, tmp_path, file, monkeypatch, anew, after):
    first = kept()
    first.add([down(1), down(2), down(3)])
    written(first)
    first.stop()
    first._storage.close()
    before = file.read_bytes() + (b"torn" if anew else b"")
    real = {name: getattr(os, name) for name in CALLS}
    for which in range(100):
        file.write_bytes(before)

        def work(which=which):
            storage = open_storage(str(tmp_path))
            found = Journal(FakeTime().clock, storage)
            calls = 0

            def counted(name):
                def call(*arguments, **more):
                    nonlocal calls
                    calls += 1
                    if calls == which + 1 and not after:
                        real["kill"](os.getpid(), signal.SIGKILL)
                    this = calls
                    try:
                        return real[name](*arguments, **more)
                    finally:
                        if this == which + 1:
                            real["kill"](os.getpid(), signal.SIGKILL)

                return call

            for name in CALLS:
                setattr(os, name, counted(name))
            found.add([down(4)])
            while found._writer is not None:
                time.sleep(0.0005)

        real["kill"] = os.kill
        ended = forked(work)
        found = kept()
        assert names(found)[:3] == [key(1), key(2), key(3)], which
        assert names(found)[3:] in ([], [key(4)]), which
        found.stop()
        found._storage.close()
        if ended == 0:
            assert which >= (5 if anew else 3), "it was never killed"
            return
        assert ended == signal.SIGKILL
    pytest.fail("it did not come to an end")


# --- files of no use --------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_one_line_of_the_log_and_no_warning(kept, file, caplog):
    caplog.set_level("INFO")
    kept().add([down(1), down(2)])
    kept()
    file.write_bytes(file.read_bytes()[:-30])
    found = kept()
    ((_, fields),) = told(caplog, "the last event was written in part, and is lost")
    assert NAME in fields["file"]
    assert names(found) == [key(1)]
    assert not file.with_name(f"{NAME}.bad").exists()


def test_lines_that_are_no_events_are_set_aside_with_one_line_and_the_others_stay(kept, file, caplog):
    kept().add([down(1), down(2)])
    kept()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"\0" * 50 + b"\n", b'{"secret"\n', lines[1]]))
    found = kept()
    assert names(found) == [key(1), key(2)]
    ((_, fields),) = told(caplog, "events of before are lost in part")
    assert fields["set_aside"] == f"{NAME}.bad"
    assert "2 lines are no events" in fields["problem"]
    assert "secret" not in str(fields)
    found.add([down(3)])
    assert names(kept()) == [key(1), key(2), key(3)]


def test_a_file_that_can_not_be_read_just_now_is_not_written_over(kept, file, caplog, monkeypatch):
    kept().add([down(1)])
    kept()
    before = file.read_bytes()
    opened = os.open

    def failing(name, *more, **options):
        if name == NAME:
            raise PermissionError(13, "Permission denied")
        return opened(name, *more, **options)

    monkeypatch.setattr("os.open", failing)
    found = kept()
    monkeypatch.setattr("os.open", opened)
    assert told(caplog, "events of before are not known, their file can't be read")
    found.add([down(2)])
    written(found)
    assert file.with_name(f"{NAME}.bad").read_bytes() == before
    assert [one.public_key for one in decode(file.read_bytes()).events] == [key(2)]


def test_a_link_in_its_place_is_not_followed(kept, tmp_path, file):
    kept()
    (tmp_path / "precious").write_text("precious")
    file.symlink_to(tmp_path / "precious")
    found = kept()
    found.add([down(1)])
    written(found)
    file.unlink()
    file.symlink_to(tmp_path / "precious")
    found.add([down(2)])
    written(found)
    assert (tmp_path / "precious").read_text() == "precious"


# --- disks that fail, hang, or are slow -------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_all_is_written_once_there_is_room(kept, file, caplog, monkeypatch):
    found = kept()
    found.add([down(1)])
    written(found)
    real = os.write

    def full(handle, data):
        real(handle, bytes(data[:10]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    monkeypatch.setattr("os.fsync", lambda _handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for n in (2, 3):
        found.add([down(n)])
        written(found)
    assert len(told(caplog, "events are not kept across restarts")) == 1
    assert "No space left on device" in found.problem()
    assert names(found) == [key(1), key(2), key(3)]
    monkeypatch.undo()
    monkeypatch.setattr(journals, "PACE", 0.0)
    caplog.set_level("INFO")
    found.add([down(4)])
    written(found)
    assert len(told(caplog, "events are kept across restarts")) == 1
    assert found.problem() == ""
    assert names(kept()) == [key(n) for n in (1, 2, 3, 4)]


def test_a_disk_that_hangs_keeps_nobody_waiting_and_memory_is_bounded(kept, monkeypatch):
    found = kept()
    hang = threading.Event()
    monkeypatch.setattr("os.fsync", lambda _handle: hang.wait(30))
    monkeypatch.setattr(journals, "PATIENCE", 0.1)
    try:
        begun = time.monotonic()
        for n in range(300):
            found.add([down(m) for m in range(n, n + 15)])
        assert len(found._unwritten) <= MOST
        assert len(found.read()[0]) == MOST
        found.stop()
        assert time.monotonic() - begun < 25
    finally:
        hang.set()


def test_ten_thousand_peers_that_change_at_once_are_one_line_and_one_fsync(kept, file, monkeypatch):
    found = kept()
    found.add([down(1)])
    written(found)
    synced = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: (synced.append(handle), real(handle)))
    begun = time.thread_time()
    found.add([down(n) for n in range(10_000)])
    assert time.thread_time() - begun < 2
    written(found)
    assert len(synced) == 1
    assert len(file.read_bytes().splitlines()) == 2


def test_what_comes_one_after_the_other_is_written_together(kept, monkeypatch):
    monkeypatch.setattr(journals, "PACE", 60.0)
    monkeypatch.setattr(journals, "PATIENCE", 30.0)
    found = kept()
    found.add([down(0)])
    synced = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: (synced.append(handle), real(handle)))
    for n in range(200):
        found.add([down(n % 9)])
        time.sleep(0.001)
    found.stop()
    assert len(synced) < 5
    monkeypatch.undo()
    assert len(kept().read()[0]) == 201


def test_while_nothing_happens_nothing_is_written_and_there_is_no_thread(kept, file):
    found = kept()
    found.add([down(1)])
    written(found)
    before = file.stat().st_mtime_ns
    eventually(lambda: "journal" not in {one.name for one in threading.enumerate()})
    assert file.stat().st_mtime_ns == before
    again = kept()
    assert again._writer is None
    assert file.stat().st_mtime_ns == before, "a good file is not written anew at the start"
