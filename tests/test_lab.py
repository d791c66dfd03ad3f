"""The lab itself: it must build what it says, and leave nothing behind whatever happens."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.lab import MARK, Lab, LabError, eventually, keypair, lab_prefix, traces, tunnel
from wg_exporter.cli.netlab import DeniedError, NoSuchKindError, run
from wg_exporter.cli.netlab.processes import stop_marked


@pytest.mark.lab
def test_a_tunnel_answers_pings_and_counts_them(lab: Lab) -> None:
    pair = tunnel(lab)
    assert pair.hub.handshakes() == {pair.spoke_keys.public: 0}
    pair.ping()
    assert pair.hub.handshakes()[pair.spoke_keys.public] > 0
    # As WireGuard counts: initiation 148 and one ping of 84 in 32 + 96, at the hub.
    assert pair.hub.transfer()[pair.spoke_keys.public] == pytest.approx((148 + 128, 92 + 128), abs=32)


@pytest.mark.lab
def test_a_link_has_the_mtu_it_was_given_at_both_ends(lab: Lab) -> None:
    a, b = lab.namespace("a"), lab.namespace("b")
    ends = lab.link(a, b, "2001:db8::1/64", "2001:db8::2/64", mtu=1400)
    assert ends == ("to-b", "to-a")
    assert "mtu 1400" in a.ip("link", "show", "to-b")
    assert "mtu 1400" in b.ip("link", "show", "to-a")
    a.run(["ping", "-c", "1", "-W", "2", "2001:db8::2"])


@pytest.mark.lab
def test_a_namespace_does_not_inherit_the_hosts_rp_filter(lab: Lab) -> None:
    """Where systemd has set it to 2, packets would be dropped that come the wrong way on purpose."""
    one, other = lab.namespace("one"), lab.namespace("other")
    lab.link(one, other, "192.0.2.1/30", "192.0.2.2/30")
    assert set(one.run(["sysctl", "-n", "-a", "--pattern", r"ipv4\.conf\..*\.rp_filter"]).split()) == {"0"}


def test_nothing_is_left_after_an_exception(lab: Lab) -> None:
    tunnel(lab)
    assert traces(lab.prefix)
    with pytest.raises(KeyboardInterrupt), lab:
        raise KeyboardInterrupt
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


@pytest.mark.lab
def test_what_a_killed_run_left_is_removed_by_its_prefix_alone(lab: Lab, tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from tests.lab import Lab, tunnel
        tunnel(Lab({lab.prefix!r}, Path({str(lab.directory)!r}), kernel=False))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    dead = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[1], check=False, timeout=30
    )
    assert dead.returncode == -9
    left = traces(lab.prefix)
    assert len(left) == 6, "two wireguard-go, two namespaces, two sockets"
    assert (lab.directory / f"{lab.prefix}hub.conf").stat().st_mode & 0o777 == 0o600
    lab.close()
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


@pytest.mark.lab
def test_a_lab_leaves_its_neighbour_alone(lab: Lab, tmp_path: Path) -> None:
    with Lab(lab_prefix(), tmp_path / "neighbour", kernel=False) as neighbour:
        pair = tunnel(neighbour)
        lab.namespace("x")
        lab.close()
        pair.ping()


@pytest.mark.lab
def test_a_failing_command_is_one_line_with_its_reason(lab: Lab) -> None:
    namespace = lab.namespace("a")
    with pytest.raises(LabError, match=r"^ip -n \S+ link set nosuch up: Cannot find device \"nosuch\"$"):
        namespace.ip("link", "set", "nosuch", "up")
    with pytest.raises(NoSuchKindError):
        namespace.ip("link", "add", "x", "type", "nosuch")
    with pytest.raises(DeniedError, match="Operation not permitted"):
        run(
            ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "ip", "link", "add", "x", "type", "dummy"]
        )
    with pytest.raises(LabError, match="no end after"):
        namespace.run(["sleep", "5"], timeout=0.1)
    with pytest.raises(LabError, match="at most 15 characters"):
        lab.wireguard(namespace, "a-name-too-long", "")


@pytest.mark.lab
def test_a_wireguard_go_that_cannot_start_says_why(lab: Lab) -> None:
    namespace = lab.namespace("a")
    namespace.ip("link", "add", f"{lab.prefix}x", "type", "veth")
    with pytest.raises(LabError, match=r"wireguard-go \S+x: did not start: .*(busy|exists|TUN)"):
        lab.wireguard(namespace, "x", "")


@pytest.mark.lab
def test_two_devices_of_one_name_are_refused_even_in_two_namespaces(lab: Lab) -> None:
    first, second = lab.namespace("a"), lab.namespace("b")
    conf = f"[Interface]\nPrivateKey = {keypair().private}\n"
    lab.wireguard(first, "twin", conf)
    with pytest.raises(LabError, match=r"twin\.sock: already there"):
        lab.wireguard(second, "twin", conf)


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    prefix = lab_prefix()
    stubborn = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()",
        ],
        env={MARK: prefix},
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout
    stubborn.stdout.readline()
    stop_marked(prefix)
    assert eventually(stubborn.poll, within=30) == -9


def test_a_process_with_another_mark_is_left_running() -> None:
    prefix = lab_prefix()
    stranger = subprocess.Popen(["sleep", "60"], env={MARK: prefix + "x"})
    try:
        stop_marked(prefix)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(LabError, match=r"^no-such-tool: No such file or directory$"):
        run(["no-such-tool"])


@pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("", "skipped")])
def test_a_skipped_test_is_a_failure_in_ci_and_says_its_reason(tmp_path: Path, ci: str, outcome: str) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('the moon is full')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)],
        env={"CI": ci, "PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert f"1 {outcome}" in done.stdout
    assert "the moon is full" in done.stdout
    assert (done.returncode == 0) == (outcome == "skipped")
