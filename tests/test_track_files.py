"""Files for keepalived: what stands in them, who may write them, and what is left when the exporter ends."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually
from wg_exporter.daemon import tracking
from wg_exporter.daemon.tracking import DOWN, UP, Tracking, file_name, is_of, wanted
from wg_exporter.linux.privileges import User
from wg_exporter.linux.trackfiles import TrackFiles, open_track_files

if TYPE_CHECKING:
    from collections.abc import Iterator

STRANGER = User(65533, 65533)
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about other users")

A, B = (("", "wg0", base64.b64encode(bytes([251]) * 31 + bytes([n])).decode()) for n in (1, 2))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[TrackFiles]:
    found = open_track_files(str(tmp_path / "track"))
    assert found.problem == ""
    yield found
    found.close()


def there(files: TrackFiles) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(files.path).iterdir()}


def test_the_name_of_a_file_has_interface_and_key_and_the_namespace_if_it_is_another():
    assert "/" in A[2]
    assert file_name(A) == f"wg0.{A[2].replace('/', '_').replace('+', '-')}"
    assert file_name(("blue", "a.b", A[2])) == f"blue:a.b.{A[2].replace('/', '_').replace('+', '-')}"


@pytest.mark.parametrize(
    ("up", "now", "right"),
    [
        (True, None, UP),
        (True, DOWN, UP),
        (True, b"rubbish", UP),
        (True, UP, "as it is"),
        (False, None, DOWN),
        (False, UP, DOWN),
        (False, DOWN, "as it is"),
        (None, None, "as it is"),
        (None, UP, None),
        (None, b"", None),
        (None, DOWN, "as it is"),
    ],
)
def test_a_file_says_what_is_known_and_what_is_not_known_moves_no_address(up, now, right):
    found = wanted({"a": up}, {} if now is None else {"a": now})
    assert found == ({} if right == "as it is" else {"a": right})


def test_files_of_peers_that_are_not_watched_any_more_are_removed_whatever_they_say():
    assert wanted({}, {"a": UP, "b": DOWN}) == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("configured", "right"),
    [
        ({("wg0", A[2])}, True),
        ({("", A[2])}, True),
        ({("wg1", A[2])}, False),
        ({("wg0", B[2])}, False),
        (set(), False),
    ],
)
def test_a_file_is_of_a_peer_by_its_key_and_its_interface_whatever_the_namespace(configured, right):
    for netns in ("", "blue", "a:b.c"):
        assert is_of(file_name((netns, "wg0", A[2])), configured) is right


def test_each_change_is_in_its_file_at_once(files):
    tracking = Tracking(files)
    tracking.tell({A: True, B: False})
    eventually(lambda: there(files) == {file_name(A): UP, file_name(B): DOWN}, within=30)
    tracking.tell({A: False, B: True})
    eventually(lambda: there(files) == {file_name(A): DOWN, file_name(B): UP}, within=30)
    assert stat.S_IMODE((Path(files.path) / file_name(A)).stat().st_mode) == 0o644
    tracking.stop()


def test_at_the_end_the_files_of_those_that_are_up_go_and_those_that_are_down_stay_until_it_is_known_again(files):
    tracking = Tracking(files)
    tracking.tell({A: True, B: False})
    tracking.stop()
    assert there(files) == {file_name(B): DOWN}
    again = Tracking(files)
    again.tell({A: None, B: None})
    again.tell({A: None, B: True})
    eventually(lambda: there(files) == {file_name(B): UP}, within=30)
    again.stop()
    assert there(files) == {}


def test_what_an_exporter_that_was_killed_left_is_judged_and_other_files_are_nobodys_business(files):
    directory = Path(files.path)
    for name, data in ((file_name(A), UP), (file_name(B), DOWN), ("wg9" + file_name(A)[3:], DOWN)):
        (directory / name).write_bytes(data)
    (directory / "README").write_text("mine")
    (directory / "sub").mkdir()
    tracking = Tracking(files)
    tracking.tell({A: None, B: None})
    eventually(lambda: {path.name for path in directory.iterdir()} == {file_name(B), "README", "sub"}, within=30)
    tracking.stop()


def test_before_anything_is_told_nothing_happens(files):
    (Path(files.path) / file_name(B)).write_bytes(DOWN)
    Tracking(files).stop()
    assert there(files) == {file_name(B): DOWN}


def test_a_file_that_could_not_be_written_is_tried_again_and_said_once(files, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "AGAIN", 0.02)
    caplog.set_level(logging.INFO, "wg_exporter")
    write, broken = files.write, [True]

    def fail(name: str, data: bytes) -> None:
        if broken[0]:
            raise OSError(28, "No space left on device")
        write(name, data)

    monkeypatch.setattr(files, "write", fail)
    track = Tracking(files)
    track.tell({A: False})
    eventually(lambda: "track files not written" in caplog.text, within=30)
    broken[0] = False
    eventually(lambda: there(files) == {file_name(A): DOWN}, within=30)
    eventually(lambda: "track files are written again" in caplog.text, within=30)
    assert caplog.text.count("track files not written") == 1
    track.stop()


def test_a_directory_that_was_removed_is_noticed_without_a_change_and_nothing_is_said_to_be_written(
    files, monkeypatch, caplog
):
    monkeypatch.setattr(tracking, "AGAIN", 0.02)
    caplog.set_level(logging.INFO, "wg_exporter")
    track = Tracking(files)
    track.tell({A: True})
    eventually(lambda: there(files) == {file_name(A): UP}, within=30)
    shutil.rmtree(files.path)
    Path(files.path).mkdir()
    track.tell({A: True})
    eventually(lambda: "track files not written" in caplog.text, within=30)
    track.tell({A: False})
    track.tell({A: True})
    time.sleep(0.1)
    track.stop()
    (record,) = [one for one in caplog.records if one.getMessage() == "track files not written"]
    assert "it was removed; restart wg-exporter" in record.fields["problem"]
    assert "written again" not in caplog.text


def test_a_file_that_could_not_be_replaced_is_not_taken_for_what_it_was_before(files, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "AGAIN", 0.02)
    caplog.set_level(logging.INFO, "wg_exporter")
    track = Tracking(files)
    track.tell({A: True})
    path = Path(files.path) / file_name(A)
    eventually(path.exists, within=30)
    path.unlink()
    path.mkdir()
    track.tell({A: False})
    eventually(lambda: "track files not written" in caplog.text, within=30)
    track.tell({A: True})
    time.sleep(0.1)
    track.stop()
    assert "written again" not in caplog.text


def test_what_a_killed_writer_left_is_in_nobodys_way(files):
    (Path(files.path) / ".new").symlink_to("/etc/passwd")
    files.write("a", DOWN)
    assert there(files) == {"a": DOWN}


def test_whoever_waits_for_a_file_sees_whole_files_alone(files):
    """Not once is there no file, or an empty one: keepalived would take both for up."""
    files.write("a", DOWN)
    seen = set()
    for n in range(200):
        files.write("a", DOWN if n % 2 else UP)
        seen.add((Path(files.path) / "a").read_bytes())
        assert {path.name for path in Path(files.path).iterdir()} == {"a"}
    assert seen == {UP, DOWN}


# --- whose directory --------------------------------------------------------------------------------------------------


def test_a_directory_that_can_not_be_had_is_a_problem_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/etc")
    for path in ("missing/track", "file", "file/track", "link"):
        found = open_track_files(str(tmp_path / path))
        assert not found
        assert "\n" not in found.problem
        assert str(tmp_path) in found.problem


def test_two_exporters_do_not_write_into_one_directory(tmp_path):
    first = open_track_files(str(tmp_path / "track"))
    second = open_track_files(str(tmp_path / "track"))
    assert (bool(first), bool(second)) == (True, False)
    assert "another wg-exporter" in second.problem
    first.close()


@root
def test_a_directory_that_somebody_else_made_is_not_taken_by_one_process_either(tmp_path):
    (tmp_path / "track").mkdir()
    os.chown(tmp_path / "track", STRANGER.uid, 0)
    found = open_track_files(str(tmp_path / "track"))
    assert not found
    assert f"it belongs to the user {STRANGER.uid}" in found.problem


@root
def test_the_process_without_rights_may_write_into_the_open_directory_and_nobody_else(tmp_path, anyone):
    tmp_path.chmod(0o700)  # it could not get there by a path
    found = open_track_files(str(tmp_path / "track"), STRANGER)
    about = (tmp_path / "track").stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, STRANGER.gid, 0o775)
    code = "import sys; from wg_exporter.linux.trackfiles import TrackFiles as Files; "
    code += "Files('x', int(sys.argv[1])).write('a', b'1')"
    handle = found._handle
    subprocess.run(
        [anyone.python, "-c", code, str(handle)],
        pass_fds=(handle,),
        user=STRANGER.uid,
        group=STRANGER.gid,
        extra_groups=(),
        cwd="/",
        check=True,
        env={**os.environ, **anyone.env},
    )
    assert (tmp_path / "track" / "a").read_bytes() == b"1"
    found.close()


@root
def test_a_directory_of_somebody_else_is_not_taken_but_an_empty_one_is_and_our_own_again(tmp_path):
    (tmp_path / "keepalived").mkdir()
    (tmp_path / "keepalived" / "keepalived.conf").write_text("secret")
    found = open_track_files(str(tmp_path / "keepalived"), STRANGER)
    assert not found
    assert "not empty" in found.problem
    assert (tmp_path / "keepalived").stat().st_gid == 0
    (tmp_path / "empty").mkdir()
    empty = open_track_files(str(tmp_path / "empty"), STRANGER)
    assert empty
    empty.write("a", DOWN)
    empty.close()
    again = open_track_files(str(tmp_path / "empty"), STRANGER)
    assert again
    again.close()
    os.chown(tmp_path / "empty", 12345, STRANGER.gid)
    assert "belongs to the user 12345" in open_track_files(str(tmp_path / "empty"), STRANGER).problem
