"""The configuration files of a host: which are read, when they are read again, and what goes wrong with them."""

import base64
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wg_exporter.linux.errors import DeniedError
from wg_exporter.model import ConfFile, ConfPeer
from wg_exporter.reader import conf
from wg_exporter.reader.conf import DEFAULT_PATTERNS, MAX_BYTES, ConfSource


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


A, B = key(1), key(2)
ALICE = f"# Alice\n[Peer]\nPublicKey = {A}\n"
NETDEV = "[NetDev]\nName=wg7\nKind=wireguard\n"


def later() -> int:
    """A clock by which every file is old enough to trust its time stamps."""
    return time.time_ns() + 10**10


def source(directory: Path, *globs: str) -> ConfSource:
    return ConfSource([str(directory / glob) for glob in globs or ("*.conf", "*.netdev")], wall_ns=later)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that any user can reach, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@contextmanager
def unprivileged() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def watch_opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: (opened.append(Path(path).name), real(path, *rest))[1])
    return opened


def test_a_pattern_that_matches_no_file_is_known_and_one_whose_directory_cannot_be_listed_is_not(
    tmp_path: Path, open_dir: Path
) -> None:
    (tmp_path / "wg0.conf").write_text(ALICE)
    found = source(tmp_path, "*.conf", "*.netdev", "nowhere/*.conf", "none*/*.conf", "missing.conf")
    found.read()
    assert [Path(text).relative_to(tmp_path).as_posix() for text in found.idle_patterns] == [
        "*.netdev",
        "nowhere/*.conf",
        "none*/*.conf",
    ]
    (tmp_path / "x.netdev").write_text(NETDEV)
    found.read()
    assert len(found.idle_patterns) == 2
    (open_dir / "shut").mkdir(mode=0)
    closed = source(open_dir, "shut/*.conf")
    with unprivileged(), pytest.raises(DeniedError):
        closed.read()
    assert closed.idle_patterns == ()


def test_files_are_read_by_their_suffix_and_given_by_path(tmp_path: Path) -> None:
    (tmp_path / "wg1.conf").write_text(ALICE)
    (tmp_path / "wg0.conf").write_text("")
    (tmp_path / "x.netdev").write_text(NETDEV)
    (tmp_path / ".hidden.conf").write_text(ALICE)
    (tmp_path / "wg0.conf.bak").write_text(ALICE)
    rows = source(tmp_path, "*.netdev", "*.conf", "wg0.conf").read()
    assert [(Path(row.path).name, row.interface) for row in rows] == [
        ("wg0.conf", "wg0"),
        ("wg1.conf", "wg1"),
        ("x.netdev", "wg7"),
    ]
    assert rows[1].peers == (ConfPeer(A, "Alice"),)


def test_the_defaults_are_where_wg_quick_awg_quick_and_networkd_look() -> None:
    assert DEFAULT_PATTERNS == (
        "/etc/wireguard/*.conf",
        "/etc/amnezia/amneziawg/*.conf",
        "/etc/systemd/network/*.netdev",
        "/run/systemd/network/*.netdev",
        "/usr/local/lib/systemd/network/*.netdev",
        "/usr/lib/systemd/network/*.netdev",
    )


def test_a_directory_that_is_absent_is_normal_and_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert source(tmp_path, "none/*.conf", "file/*.conf", "*/deep/*.conf").read() == ()


def test_a_pattern_may_have_wildcards_in_its_directories(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wg0.conf").write_text(ALICE)
    assert len(source(tmp_path, "*/wg?.conf").read()) == 2


def test_a_file_that_was_asked_for_by_name_and_is_missing_is_a_problem(tmp_path: Path) -> None:
    (row,) = source(tmp_path, "wg0.conf").read()
    assert row.problems[0].startswith(f"{tmp_path}/wg0.conf: no such file or directory; ")


def test_while_nothing_changes_the_same_tuple_comes_back(tmp_path: Path) -> None:
    (tmp_path / "wg0.conf").write_text(ALICE)
    conf = source(tmp_path, "*.conf", "missing.conf")
    first = conf.read()
    assert len(first) == 2
    assert conf.read() is first


def test_only_the_file_that_changed_is_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wg0.conf", "wg1.conf"):
        (tmp_path / name).write_text(ALICE)
    opened = watch_opens(monkeypatch)
    conf = source(tmp_path)
    first = conf.read()
    conf.read()
    assert opened == ["wg0.conf", "wg1.conf"]
    (tmp_path / "wg1.conf").write_text(ALICE.replace("Alice", "Al"))
    second = conf.read()
    assert opened == ["wg0.conf", "wg1.conf", "wg1.conf"]
    assert second[0] is first[0]
    assert second[1].peers[0].name == "Al"


def test_a_netdev_with_drop_ins_and_key_files_is_not_read_again_while_none_of_them_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pub").write_text(A)
    (tmp_path / "wg.netdev").write_text(NETDEV)
    (tmp_path / "wg.netdev.d").mkdir()
    (tmp_path / "wg.netdev.d" / "a.conf").write_text(f"[WireGuardPeer]\nPublicKeyFile={tmp_path}/a.pub\n")
    opened = watch_opens(monkeypatch)
    conf = source(tmp_path)
    assert len(conf.read()[0].peers) == 1
    assert conf.read() is conf.read()
    assert opened == ["wg.netdev", "a.conf", "a.pub"]


def test_a_file_that_changed_a_moment_ago_is_read_again_as_its_stamp_may_hide_a_second_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wg0.conf").write_text(ALICE)
    opened = watch_opens(monkeypatch)
    conf = ConfSource([f"{tmp_path}/*.conf"])
    assert conf.read() is conf.read()
    assert opened == ["wg0.conf"] * 2


def test_a_change_is_seen_even_where_size_and_modification_time_stay(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text(ALICE)
    conf = source(tmp_path)
    conf.read()
    stamps = path.stat()
    path.write_text(ALICE.replace("Alice", "Bobby"))
    os.utime(path, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    assert conf.read()[0].peers[0].name == "Bobby"


def test_two_changes_within_one_tick_of_the_clock_are_both_seen(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    conf = ConfSource([str(path)])
    for name in ("Alice", "Bobby", "Carol") * 20:
        path.write_text(ALICE.replace("Alice", name))
        assert conf.read()[0].peers[0].name == name


def test_a_file_that_is_only_touched_gives_the_same_tuple(tmp_path: Path) -> None:
    (tmp_path / "wg0.conf").write_text(ALICE)
    conf = source(tmp_path)
    first = conf.read()
    (tmp_path / "wg0.conf").touch()
    assert conf.read() is first


def test_files_that_come_and_go_change_the_rows(tmp_path: Path) -> None:
    conf = source(tmp_path)
    assert conf.read() == ()
    (tmp_path / "wg0.conf").write_text(ALICE)
    assert len(conf.read()) == 1
    (tmp_path / "wg0.conf").rename(tmp_path / "wg1.conf")
    assert [row.interface for row in conf.read()] == ["wg1"]
    (tmp_path / "wg1.conf").unlink()
    assert conf.read() == ()


def test_drop_ins_and_key_files_of_a_netdev_are_read_again_when_they_change(tmp_path: Path) -> None:
    public = tmp_path / "alice.pub"
    (tmp_path / "wg.netdev").write_text(NETDEV + f"[WireGuardPeer]\n# Alice\nPublicKeyFile={public}\n")
    conf = source(tmp_path)
    assert "PublicKeyFile cannot be read" in conf.read()[0].problems[0]
    public.write_text(A + "\n")
    assert conf.read()[0].peers == (ConfPeer(A, "Alice"),)
    public.write_text(B + "\n")
    assert conf.read()[0].peers == (ConfPeer(B, "Alice"),)
    drop_in = tmp_path / "wg.netdev.d" / "more.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[WireGuardPeer]\n# Carol\nPublicKey={key(3)}\n")
    assert [peer.name for peer in conf.read()[0].peers] == ["Alice", "Carol"]
    drop_in.write_text(f"[WireGuardPeer]\n# Dave\nPublicKey={key(3)}\n")
    rows = conf.read()
    assert [peer.name for peer in rows[0].peers] == ["Alice", "Dave"]
    assert conf.read() is rows


@pytest.mark.parametrize("name", ["alice.pub", "/dev/zero", "/dev/null", "/a\0b", "/", "/proc/self/mem"])
def test_a_key_file_that_is_no_small_regular_file_with_a_full_path_gives_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "alice.pub").write_text(A)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wg.netdev").write_text(NETDEV + f"[WireGuardPeer]\nPublicKeyFile={name}\n")
    (row,) = source(tmp_path).read()
    assert row.peers == ()
    assert len(row.problems) == 1


def test_what_is_no_regular_file_is_a_problem_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.conf")
    (tmp_path / "b.conf").mkdir()
    (tmp_path / "c.conf").symlink_to("/dev/zero")
    (tmp_path / "d.conf").symlink_to("d.conf")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "e.conf"))
        began = time.monotonic()
        rows = source(tmp_path).read()
    assert time.monotonic() - began < 1
    reasons = [row.problems[0].split(": ")[1].split(";")[0] for row in rows]
    assert reasons == [*["not a regular file"] * 3, "too many levels of symbolic links", "not a regular file"]


def test_a_symbolic_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(ALICE)
    (tmp_path / "wg0.conf").symlink_to("real")
    assert source(tmp_path).read()[0].peers == (ConfPeer(A, "Alice"),)


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "wg0.conf").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (row,) = source(tmp_path).read()
    assert f"larger than {MAX_BYTES} bytes" in row.problems[0]


def test_a_line_that_is_not_utf8_is_taken_as_latin_1_and_spoils_no_other(tmp_path: Path) -> None:
    text = f"# Zoë\n[Peer]\nPublicKey = {A}\n\n".encode() + f"# Zoë\n[Peer]\nPublicKey = {B}\n".encode("latin-1")
    (tmp_path / "wg0.conf").write_bytes(text)
    assert [peer.name for peer in source(tmp_path).read()[0].peers] == ["Zoë", "Zoë"]


def test_garbage_in_a_file_and_in_its_name_is_one_problem_on_one_line(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n.conf"
    with open(name, "wb") as file:  # noqa: PTH123 -- the name is bytes
        file.write(bytes(range(256)) * 50)
    (row,) = source(tmp_path).read()
    assert len(row.problems) == 1
    assert "\n" not in row.problems[0]
    assert row.path.encode()


def test_a_file_that_becomes_unreadable_loses_its_names(open_dir: Path) -> None:
    (open_dir / "wg0.conf").write_text(ALICE)
    (open_dir / "wg1.conf").write_text(ALICE)
    conf = source(open_dir)
    with unprivileged():
        assert [row.interface for row in conf.read()] == ["wg0", "wg1"]
    (open_dir / "wg0.conf").chmod(0)
    with unprivileged():
        row = conf.read()[0]
        assert conf.read()[0] is row
    assert row.peers == ()
    assert len(row.problems) == 1
    assert row.problems[0].startswith(f"{open_dir}/wg0.conf: permission denied; it gives no names; ")


def test_a_directory_that_cannot_be_listed_is_a_problem_beside_files_that_can_be_read(open_dir: Path) -> None:
    (open_dir / "closed").mkdir(0)
    (open_dir / "wg1.conf").write_text(ALICE)
    with unprivileged():
        rows = source(open_dir, "closed/*.conf", "*.conf").read()
    assert [len(row.peers) for row in rows] == [0, 1]
    assert rows[0].problems[0].startswith(f"{open_dir}/closed: permission denied; ")


@pytest.mark.parametrize("kind", ["directory", "file", "named file"])
def test_nothing_readable_for_want_of_permission_is_an_error_that_says_what_to_do(open_dir: Path, kind: str) -> None:
    closed = open_dir / "wireguard"
    closed.mkdir()
    (closed / "wg0.conf").write_text(ALICE)
    (closed if kind == "directory" else closed / "wg0.conf").chmod(0)
    # It describes no WireGuard device, so to have read it is no success.
    (open_dir / "bridge.netdev").write_text("[NetDev]\nName=br0\nKind=bridge\n")
    conf = source(open_dir, "wireguard/wg0.conf" if kind == "named file" else "wireguard/*.conf", "*.netdev")
    with unprivileged(), pytest.raises(DeniedError) as caught:
        conf.read()
    assert str(caught.value).startswith(f"{closed}")
    assert "permission denied; run as root, or give the names under `peers`" in str(caught.value)
    assert "\n" not in str(caught.value)
    closed.chmod(0o755)
    (closed / "wg0.conf").chmod(0o644)
    with unprivileged():
        assert any(row.peers for row in conf.read())


def test_a_nul_in_a_pattern_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    rows = source(tmp_path, "a\0b.conf", "c\0/*.conf").read()
    assert len(rows) == 2
    assert all(len(row.problems) == 1 for row in rows)


def test_a_file_that_is_being_written_keeps_its_last_row_until_it_is_whole_or_a_second_old(tmp_path):
    path, after_ns = tmp_path / "wg0.conf", 5_000_000_000
    source = ConfSource([str(tmp_path / "*.conf")], wall_ns=lambda: path.stat().st_mtime_ns + after_ns)
    path.write_text(f"[Peer]\n# friendly_name = alice\nPublicKey = {A}\n")
    whole = source.read()
    assert [peer.name for peer in whole[0].peers] == ["alice"]
    path.write_text("")  # an editor has cut it off, and has not written it yet
    after_ns = 1_000_000
    assert source.read() is whole
    path.write_text(f"[Peer]\n# friendly_name = bob\nPublicKey = {A}\n")
    assert [peer.name for peer in source.read()[0].peers] == ["bob"]
    after_ns = 5_000_000_000
    source.read()
    path.write_text("")
    after_ns = 1_000_000_000
    assert source.read()[0].peers == (), "it is meant to be empty"


def test_a_file_that_changed_twice_within_one_tick_of_a_coarse_clock_is_read_again(tmp_path, monkeypatch):
    """As on a file system whose stamps are whole seconds: neither stamps nor size tell the second change."""
    stamp = 1_700_000_000_000_000_000
    age_ns = 1_000_000_000
    monkeypatch.setattr(conf, "_stat_signature", lambda path: (stamp, stamp, path.stat().st_size))
    source = ConfSource([str(tmp_path / "*.conf")], wall_ns=lambda: stamp + age_ns)
    path = tmp_path / "wg0.conf"
    path.write_text(f"[Peer]\n# friendly_name = alice\nPublicKey = {A}\n")
    assert [peer.name for peer in source.read()[0].peers] == ["alice"]
    path.write_text(f"[Peer]\n# friendly_name = clara\nPublicKey = {A}\n")
    age_ns = 1_500_000_000
    assert [peer.name for peer in source.read()[0].peers] == ["clara"]


# systemd-networkd's directories


PLACES = ("etc", "run", "local", "lib")


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name / "network" for name in PLACES}
    for place in found.values():
        (place / "wg.netdev.d").mkdir(parents=True)
    return found


def of_networkd(places: dict[str, Path], *patterns: str) -> ConfSource:
    globs = patterns or [f"{place}/*.netdev" for place in places.values()]
    return ConfSource(globs, wall_ns=later, networkd_directories=tuple(places.values()))


def section(number: int, name: str) -> str:
    return f"[WireGuardPeer]\n# friendly_name = {name}\nPublicKey={key(number)}\n"


def peers(rows: tuple[ConfFile, ...]) -> list[str]:
    return [peer.name for row in rows for peer in row.peers]


@pytest.mark.parametrize("place", PLACES)
def test_a_netdev_is_read_from_each_of_networkds_directories_with_the_drop_ins_of_all(
    places: dict[str, Path], place: str
) -> None:
    (places[place] / "wg.netdev").write_text(NETDEV + section(1, "main"))
    for number, (name, other) in enumerate(places.items(), 2):
        (other / "wg.netdev.d" / f"{9 - number}-{name}.conf").write_text(section(number, name))
    (row,) = of_networkd(places).read()
    assert row.path == f"{places[place]}/wg.netdev"
    assert peers((row,)) == ["main", "lib", "local", "run", "etc"], "by file name, wherever they are"
    assert row.problems == ()


def test_of_files_of_one_name_the_one_in_the_first_directory_counts(places: dict[str, Path]) -> None:
    names = of_networkd(places)
    for name, place in reversed(places.items()):
        (place / "wg.netdev").write_text(NETDEV + section(1, f"main in {name}"))
        (place / "wg.netdev.d" / "more.conf").write_text(section(2, f"drop-in in {name}"))
        assert peers(names.read()) == [f"main in {name}", f"drop-in in {name}"]
    (places["etc"] / "wg.netdev").unlink()
    assert peers(names.read()) == ["main in run", "drop-in in etc"]
    (places["run"] / "wg.netdev").rename(places["run"] / "other.netdev")
    assert peers(names.read()) == ["main in local", "drop-in in etc", "main in run"]


@pytest.mark.parametrize("mask", ["null", "empty", "linked empty"])
def test_an_empty_file_or_a_link_to_dev_null_masks_those_of_its_name_and_is_no_problem(
    places: dict[str, Path], mask: str
) -> None:
    def put(path: Path) -> None:
        if mask == "empty":
            path.touch()
        else:
            empty = path.with_suffix(".empty")
            empty.touch()
            path.symlink_to("/dev/null" if mask == "null" else empty)

    (places["lib"] / "wg.netdev").write_text(NETDEV + section(1, "main"))
    (places["lib"] / "wg.netdev.d" / "a.conf").write_text(section(2, "a"))
    (places["local"] / "wg.netdev.d" / "b.conf").write_text(NETDEV + section(3, "b"))
    names = of_networkd(places)
    assert peers(names.read()) == ["main", "a", "b"]
    put(places["run"] / "wg.netdev.d" / "a.conf")
    rows = names.read()
    assert peers(rows) == ["main", "b"]
    put(places["etc"] / "wg.netdev")
    rows = names.read()
    assert peers(rows) == []
    assert [row.problems for row in rows] == [()], "nor is it one without peers"


def test_a_drop_in_that_appears_in_another_directory_is_seen_while_the_file_stays(places: dict[str, Path]) -> None:
    (places["lib"] / "wg.netdev").write_text(NETDEV)
    (places["run"] / "wg.netdev.d").rmdir()
    names = of_networkd(places)
    assert names.read() is names.read()
    (places["run"] / "wg.netdev.d").mkdir()
    (places["run"] / "wg.netdev.d" / "a.conf").write_text(section(1, "a"))
    assert peers(names.read()) == ["a"]


def test_a_file_that_was_asked_for_by_name_is_read_though_another_one_replaces_it(places: dict[str, Path]) -> None:
    for name in ("etc", "lib"):
        (places[name] / "wg.netdev").write_text(NETDEV + section(1, name))
    assert peers(of_networkd(places, f"{places['lib']}/wg.netdev").read()) == ["lib"]
    assert peers(of_networkd(places, f"{places['lib']}/*.netdev").read()) == []


def test_a_netdev_elsewhere_has_the_drop_ins_beside_it_and_no_others(places: dict[str, Path], tmp_path: Path) -> None:
    (places["etc"] / "wg.netdev.d" / "a.conf").write_text(section(1, "networkd's"))
    (tmp_path / "wg.netdev").write_text(NETDEV)
    (tmp_path / "wg.netdev.d").mkdir()
    (tmp_path / "wg.netdev.d" / "b.conf").write_text(section(2, "beside"))
    assert peers(of_networkd(places, f"{tmp_path}/*.netdev").read()) == ["beside"]
