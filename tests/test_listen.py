"""Listen addresses and telemetry paths as they are typed, and the sockets that come of them."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.web.listen import Listen, ListenError, bind, describe, parse_listen, parse_telemetry_path


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        (":9586", Listen(None, 9586)),
        ("127.0.0.1:9586", Listen("127.0.0.1", 9586)),
        ("[::1]:9586", Listen("::1", 9586)),
        ("[fe80::1%eth0]:9586", Listen("fe80::1%eth0", 9586)),
        ("localhost:9586", Listen("localhost", 9586)),
        ("vpn-1.example.org:80", Listen("vpn-1.example.org", 80)),
        (":0", Listen(None, 0)),
        (":65535", Listen(None, 65535)),
    ],
)
def test_an_address_is_read_and_printed_as_it_was_typed(text, listen):
    assert parse_listen(text) == listen
    assert str(listen) == text


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("9586", "write :9586"),
        ("127.0.0.1", "the port is missing"),
        ("localhost", "the port is missing"),
        ("[::1]", "the port is missing"),
        ("", "the port is missing"),
        ("::1:9586", "needs brackets"),
        ("::1", "needs brackets"),
        ("[127.0.0.1]:9586", "not an IPv6 address"),
        ("[]:9586", "not an IPv6 address"),
        ("[::1:9586", "the port is missing"),
        ("::1]:9586", "needs brackets"),
        ("http://127.0.0.1:9586", "a URL"),
        ("127.0.0.1:9586/metrics", "a URL"),
        ("*:9586", "write :9586"),
        (":http", "'http' is not a port"),
        (":", "'' is not a port"),
        (":65536", "use a number from 0 to 65535"),
        (":-1", "is not a port"),
        (":+1", "is not a port"),
        (":\u0661", "is not a port"),
        (" :9586", "is not a host"),
        (":9586 ", "is not a port"),
        ("a b:1", "is not a host"),
        ("-x:1", "is not a host"),
        ("\n:1", "is not a host"),
    ],
)
def test_a_wrong_address_is_one_line_with_the_fix(text, fix):
    with pytest.raises(ListenError) as caught:
        parse_listen(text)
    line = str(caught.value)
    assert repr(text) in line
    assert fix in line
    assert "\n" not in line


@given(st.text(alphabet="0123456789.:[]%*/ abl-_\x00\u0661", max_size=20) | st.text(max_size=20))
def test_any_text_is_an_address_or_one_line(text):
    try:
        listen = parse_listen(text)
    except ListenError as error:
        problem = str(error)
        assert len(problem.splitlines()) == 1
    else:
        assert parse_listen(str(listen)) == listen
        assert 0 <= listen.port <= 65535


@pytest.mark.parametrize("text", ["/metrics", "/", "/a/b", "/~wg/metrics_1.x-y", "/-x"])
def test_a_telemetry_path_is_taken_as_it_is(text):
    assert parse_telemetry_path(text) == text


def test_a_trailing_slash_is_dropped():
    assert parse_telemetry_path("/metrics/") == "/metrics"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metrics",
        "//",
        "/a//b",
        "/metrics//",
        "/a?b",
        "/a#b",
        "/a b",
        "/\u00e9",
        "/%20",
        "/a\n",
        "/{x}",
        "/./a",
        "/../a",
    ],
)
def test_a_wrong_telemetry_path_is_one_line_with_the_fix(text):
    with pytest.raises(ListenError, match=r"^telemetry path .*; write it as /metrics"):
        parse_telemetry_path(text)


@pytest.mark.parametrize("text", ["/-", "/-/", "/-/healthy", "/-/x"])
def test_the_health_checks_cannot_be_covered(text):
    with pytest.raises(ListenError, match="health checks"):
        parse_telemetry_path(text)


@pytest.mark.parametrize("text", ["/api", "/api/v1", "/sd", "/sd/x"])
def test_paths_of_our_own_cannot_be_covered(text):
    with pytest.raises(ListenError, match=r"is for .*; use another path, such as /metrics"):
        parse_telemetry_path(text)


@pytest.mark.parametrize("text", ["/apis", "/sdx", "/sd-card/api"])
def test_a_path_that_only_begins_like_one_of_ours_is_taken(text):
    assert parse_telemetry_path(text) == text


def close(sockets):
    for sock in sockets:
        sock.close()


def reach(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "ipv4", "ipv6"),
    [
        (":0", True, True),
        ("[::]:0", True, True),
        ("0.0.0.0:0", True, False),
        ("127.0.0.1:0", True, False),
        ("[::1]:0", False, True),
    ],
)
def test_who_can_reach_what(text, ipv4, ipv6):
    sockets = bind([parse_listen(text)])
    assert len(sockets) == 1
    port = sockets[0].getsockname()[1]
    assert (reach("127.0.0.1", port), reach("::1", port)) == (ipv4, ipv6)
    assert describe(sockets[0]).endswith(f":{port}")
    close(sockets)


def test_a_name_is_one_port_on_all_of_its_addresses():
    sockets = bind([parse_listen("localhost:0")])
    ports = {sock.getsockname()[1] for sock in sockets}
    assert len(ports) == 1
    assert {sock.getsockname()[0] for sock in sockets} == {
        address[0] for *_, address in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)
    }
    close(sockets)


@pytest.mark.parametrize("taken", ["127.0.0.1", "::"])
def test_a_port_in_use_says_which_and_how_to_find_who_has_it(taken):
    holder = bind([Listen(taken, 0)])
    port = holder[0].getsockname()[1]
    with pytest.raises(ListenError) as caught:
        bind([Listen(None, port)])
    assert str(caught.value) == (
        f"cannot listen on :{port}: the port is in use; find who has it with: ss -ltnp 'sport = :{port}'"
    )
    close(holder)


def test_two_flags_for_one_port_are_a_port_in_use():
    (free,) = bind([Listen("127.0.0.1", 0)])
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(ListenError, match="in use"):
        bind([Listen("127.0.0.1", port), Listen("127.0.0.1", port)])


def test_when_one_address_fails_none_is_left_open():
    (holder,) = bind([Listen("127.0.0.1", 0)])
    (free,) = bind([Listen("127.0.0.1", 0)])
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(ListenError):
        bind([Listen("127.0.0.1", port), Listen("127.0.0.1", holder.getsockname()[1])])
    assert not reach("127.0.0.1", port)
    holder.close()


@pytest.mark.parametrize(
    ("listen", "line"),
    [
        (Listen("203.0.113.7", 9586), "cannot listen on 203.0.113.7:9586: no interface of this host has the address"),
        (Listen("no-such-host.invalid", 1), "cannot listen on no-such-host.invalid:1: no-such-host.invalid does not"),
        (Listen("a..b", 1), "cannot listen on a..b:1: a..b does not resolve"),
        (Listen("x" * 200, 1), "does not resolve"),
        (Listen("fe80::1%nothing", 1), "does not resolve"),
    ],
)
def test_an_address_that_is_not_ours_is_one_line(listen, line):
    with pytest.raises(ListenError) as caught:
        bind([listen])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


IPV4_ONLY = """
import socket
from wg_exporter.web.listen import bind, parse_listen, describe, ListenError
real = socket.socket
def socket_without_ipv6(family, *rest):
    if family == socket.AF_INET6 and {absent}:
        raise OSError(97, "Address family not supported by protocol")
    return real(family, *rest)
socket.socket = socket_without_ipv6
sock, = bind([parse_listen(":0")])
with real() as client:
    client.connect(("127.0.0.1", sock.getsockname()[1]))
print(describe(sock).rpartition(":")[0])
try:
    bind([parse_listen("[::1]:0")])
except ListenError as error:
    print(error)
"""


def test_without_ipv6_in_the_kernel_an_empty_host_is_ipv4():
    done = subprocess.run(
        [sys.executable, "-c", IPV4_ONLY.format(absent=True)], check=False, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "0.0.0.0",
        "cannot listen on [::1]:0: this host has no IPv6; listen on an IPv4 address",
    ]


def test_with_ipv6_switched_off_by_sysctl_an_empty_host_serves_ipv4():
    """In a network namespace of its own, which ends with the process."""
    script = 'ip link set lo up && sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && exec "$@"'
    unshare = ["unshare", "--net", "sh", "-c", script, "sh"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no right to make a network namespace (needs root)")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", IPV4_ONLY.format(absent=False)], check=False, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[0] in ("[::]", "0.0.0.0")
    assert "no interface of this host has the address" in done.stdout.splitlines()[1]
