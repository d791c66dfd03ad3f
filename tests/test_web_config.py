"""The web configuration: what is read from its file, and what it makes of requests; promtool is asked as an oracle."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.certificates import certificate
from tests.serving import eventually, running
from wg_exporter.config.web import ClientAuth, TlsVersion, WebConfigError, parse_web
from wg_exporter.web import tls
from wg_exporter.web.files import WebFiles
from wg_exporter.web.passwords import MOST_WAITING, Passwords, TooBusyError
from wg_exporter.web.policy import Bucket, Policy, Refusal, made

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.web.server import Server

# Of "secret". It is in the names of tests, which are the same in all lanes.
HASH = "$2b$04$iE2etrWTS7kE857hhR6i0ux6muTVWFaMJ8qhkBKHIpDCu1r/OtsIm"
PAIR = "cert_file: c.pem, key_file: k.pem"

GOOD = [
    "",
    "tls_server_config: {" + PAIR + "}",
    "tls_server_config: {" + PAIR + ", min_version: TLS13, max_version: TLS13}",
    "tls_server_config: {" + PAIR + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: c.pem}",
    "tls_server_config: {" + PAIR + ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: c.pem}",
    "tls_server_config: {" + PAIR + ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}",
    "tls_server_config: {" + PAIR + ", curve_preferences: [CurveP256]}",
    "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}",
    f"basic_auth_users: {{anna: '{HASH}', berta: '{HASH}'}}",
    f"basic_auth_users: {{anna: '{HASH.replace('$2b$', '$2y$')}'}}",
]
BAD = [
    ("nonsense: 1", "is not a known key"),
    ("tls_server_config: {cert_file: c.pem}", "key_file is missing"),
    ("tls_server_config: {key_file: k.pem}", "cert_file is missing"),
    ("tls_server_config: {" + PAIR + ", client_auth_type: Maybe}", "must be one of"),
    ("tls_server_config: {" + PAIR + ", client_ca_file: c.pem}", "no certificate of a client is verified"),
    ("tls_server_config: {" + PAIR + ", min_version: SSL3}", "must be one of"),
    ("tls_server_config: {" + PAIR + ", cipher_suites: [ROT13]}", "is not a cipher suite"),
    ("tls_server_config: {" + PAIR + ", curve_preferences: [Round]}", "is not a curve"),
    ("http_server_config: {headers: {X-Mine: 1}}", ""),
]
OURS_ALONE = [  # what promtool takes, some of it because it is old
    ("tls_server_config: {" + PAIR + ", client_auth_type: RequireAndVerifyClientCert}", "needs client_ca_file"),
    ("basic_auth_users: {anna: secret}", "is not a bcrypt hash"),
    (f"basic_auth_users: {{'a:b': '{HASH}'}}", "can't be a user name"),
    ("tls_server_config: {" + PAIR + ", client_auth_type: RequireAnyClientCert}", "can't be had"),
    ("tls_server_config: {" + PAIR + ", min_version: TLS13, max_version: TLS12}", "is newer than max_version"),
    ("tls_server_config: {" + PAIR + ", cert: x}", "is given, and cert_file too"),
    ("tls_server_config: {" + PAIR + ", client_allowed_sans: [a]}", "needs a verified certificate"),
    ("rate_limit: {interval: soon}", "is not a duration"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate c.pem and its key k.pem."""
    directory = tmp_path_factory.mktemp("tls")
    certificate(directory, "gw1")
    (directory / "gw1.crt").rename(directory / "c.pem")
    (directory / "gw1.key").rename(directory / "k.pem")
    return directory


def promtool(directory: Path, text: str) -> bool:
    """Whether it takes this web configuration."""
    (directory / "web.yml").write_text(text)
    done = subprocess.run(
        ["promtool", "check", "web-config", "web.yml"], cwd=directory, check=False, capture_output=True
    )
    return done.returncode == 0


def problems(text: str) -> str:
    with pytest.raises(WebConfigError) as error:
        parse_web(text, "web.yml")
    return str(error.value)


needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool: apt-get install prometheus")


@pytest.mark.parametrize("text", GOOD)
@needs_promtool
def test_what_promtool_takes_is_taken(files, text):
    assert promtool(files, text)
    parse_web(text, "web.yml")


@pytest.mark.parametrize(("text", "says"), BAD)
@needs_promtool
def test_what_promtool_refuses_is_refused_with_the_line_and_the_reason(files, text, says):
    assert not promtool(files, text)
    told = problems(text)
    assert told.startswith("web.yml:1")
    assert says in told


@pytest.mark.parametrize(("text", "says"), OURS_ALONE)
def test_what_can_not_work_is_refused_too(text, says):
    assert says in problems(text)


def test_a_mistake_hides_no_other_and_each_has_its_line():
    text = """
nonsense: 1
tls_server_config:
  cert_fil: c.pem
  key_file: k.pem
  cipher_suites: [ROT13]
  client_auth_type: RequireAnyClientCert
basic_auth_users:
  anna-x: secret
http_server_config:
  headers: {X-Mine: 1}
  http3: yes
rate_limit: {interval: soon, bursts: 1}
"""
    assert [line.partition(": ")[0] for line in problems(text).splitlines()] == [
        f"web.yml:{number}" for number in (2, 4, 6, 7, 9, 11, 12, 13, 13)
    ]


def test_a_file_that_is_not_there_is_not_a_reason_to_run_without_tls(tmp_path):
    with pytest.raises(WebConfigError) as error:
        WebFiles(tmp_path / "nope.yml").read()
    assert str(error.value).endswith("; correct the path; without this file there is no TLS and no password")


def test_no_message_has_a_hash_or_a_key_in_it():
    for text in (
        f"basic_auth_users: {{anna: 'x{HASH}'}}",
        "tls_server_config: {cert: SECRETSECRET, key: [SECRETSECRET]}",
        f"basic_auth_users: ['{HASH}']",
    ):
        told = problems(text)
        assert HASH[8:30] not in told
        assert "SECRET" not in told


def test_relative_files_are_beside_the_configuration():
    config = parse_web("tls_server_config: {cert_file: a/c.pem, key_file: /k.pem}", "web.yml")
    assert config.files("/etc/x") == {"cert": "/etc/x/a/c.pem", "key": "/k.pem"}
    assert config.tls_server_config.min_version is TlsVersion.TLS12
    assert config.tls_server_config.client_auth_type is ClientAuth.NONE
    assert parse_web("", "web.yml").files("/etc") == {}


# --- TLS --------------------------------------------------------------------------------------------------------------


def context(files: Path, **names: str):
    text = "tls_server_config: {" + PAIR + "}"
    return tls.context(
        parse_web(text, "w").tls_server_config, {"cert": str(files / "c.pem"), "key": str(files / "k.pem")} | names
    )


def test_files_that_are_no_certificate_and_its_key_are_told_in_one_line_without_what_is_in_them(files, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "bad.pem"
    other.write_text("-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n")
    for names in ({"key": str(other)}, {"cert": str(other)}, {"cert": str(tmp_path / "none")}, {"key": str(tmp_path)}):
        with pytest.raises(tls.TlsError) as error:
            context(files, **names)
        assert "\n" not in str(error.value)
        assert "SECRET" not in str(error.value)
    assert context(files)


def test_a_file_that_never_ends_is_told_and_not_waited_for(files, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        for name in ("cert", "key", "client_ca"):
            text = "tls_server_config: {" + PAIR + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: x}"
            paths = {"cert": str(files / "c.pem"), "key": str(files / "k.pem"), "client_ca": str(files / "c.pem")}
            with pytest.raises(tls.TlsError, match=f"^{path}: not a regular file$"):
                tls.context(parse_web(text, "w").tls_server_config, {**paths, name: str(path)})


def test_a_key_with_a_password_is_refused_and_nobody_asked(files, tmp_path):
    command = [
        "openssl",
        "ec",
        "-in",
        str(files / "k.pem"),
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        str(tmp_path / "k"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(tls.TlsError, match="has a password"):
        context(files, key=str(tmp_path / "k"))


def test_a_certificate_and_key_may_be_in_the_configuration_itself(files):
    def block(name):
        return "".join(f"    {line}\n" for line in (files / name).read_text().splitlines())

    text = f"tls_server_config:\n  cert: |\n{block('c.pem')}  key: |\n{block('k.pem')}"
    assert made(text, "w", {}).tls is not None


@pytest.mark.parametrize(
    ("names", "allowed", "may"),
    [
        ((("DNS", "prom"),), ("prom",), True),
        ((("DNS", "other"), ("IP Address", "10.0.0.1")), ("10.0.0.1",), True),
        ((("DNS", "prom.evil"),), ("prom",), False),
        ((("DirName", "prom"),), ("prom",), False),
        ((), ("prom",), False),
        ((), (), True),
        ((("IP Address", "2001:DB8:0:0:0:0:0:1"),), ("2001:db8::1",), True),
        ((("IP Address", "2001:DB8:0:0:0:0:0:1"),), ("2001:0db8::0:1",), True),
        ((("IP Address", "2001:DB8:0:0:0:0:0:2"),), ("2001:db8::1", "prom"), False),
        ((("DNS", "10.0.0.1"),), ("10.0.0.2",), False),
        ((("IP Address", "<invalid>"),), ("prom",), False),
    ],
)
def test_a_client_needs_one_of_the_names(names, allowed, may):
    assert tls.may_come_in({"subjectAltName": names} if names else {}, allowed) is may
    assert tls.may_come_in(None, allowed) is (not allowed)


# --- passwords --------------------------------------------------------------------------------------------------------


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def asked(passwords: Passwords, *headers: str) -> list[bool]:
    async def ask() -> list[bool]:
        return [await passwords.allows(header) for header in headers]

    return asyncio.run(ask())


def test_only_the_right_password_of_a_known_user_is_right():
    passwords = Passwords({"anna": HASH})
    assert asked(
        passwords,
        basic("anna", "secret"),
        basic("anna", "secret"),
        "basic " + basic("anna", "secret")[6:],
        basic("anna", "Secret"),
        basic("anna", ""),
        basic("berta", "secret"),
        basic("", "secret"),
        basic("anna", "secret" + "x" * 100),
        basic("anna", "s" * 10_000),
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Bearer " + basic("anna", "secret")[6:],
    ) == [True, True, True, *[False] * 12]
    assert asked(Passwords({}), "") == [True]


def test_a_password_of_72_bytes_is_whole_and_a_longer_one_that_begins_like_it_is_wrong():
    long = "x" * 72
    passwords = Passwords({"anna": bcrypt.hashpw(long.encode(), bcrypt.gensalt(4)).decode()})
    assert asked(passwords, basic("anna", long), basic("anna", long + "y")) == [True, False]


def test_wrong_ones_too_long_ones_and_unknown_users_take_the_same_time():
    passwords = Passwords({"anna": bcrypt.hashpw(b"secret", bcrypt.gensalt(9)).decode()})
    took: dict[str, list[float]] = {}
    for number in range(9):
        for kind, header in {
            "wrong": basic("anna", f"wrong{number}"),
            "long": basic("anna", "x" * 200 + str(number)),
            "unknown": basic("nobody", f"secret{number}"),
        }.items():
            begun = time.process_time()  # of all threads; what else the machine does is not in it
            asked(passwords, header)
            took.setdefault(kind, []).append(time.process_time() - begun)
    best = [min(times) for times in took.values()]
    assert max(best) < 1.3 * min(best)
    begun = time.process_time()
    asked(passwords, basic("anna", "secret"))
    first = time.process_time() - begun
    begun = time.process_time()
    asked(passwords, *[basic("anna", "secret")] * 50)
    assert time.process_time() - begun < first, "a right one is remembered"


def test_a_list_of_words_keeps_nobody_waiting():
    passwords = Passwords({"anna": bcrypt.hashpw(b"secret", bcrypt.gensalt(8)).decode()})

    async def ask() -> None:
        assert await passwords.allows(basic("anna", "secret"))
        words = [(basic("anna", f"word{n}"), f"10.0.0.{n % 50}") for n in range(200)]
        crowd = [asyncio.create_task(passwords.allows(*word)) for word in words]
        await asyncio.sleep(0)
        before = sum(one.done() for one in crowd)
        assert await passwords.allows(basic("anna", "secret"))
        assert sum(one.done() for one in crowd) == before, "nobody had a turn meanwhile"
        results = await asyncio.gather(*crowd, return_exceptions=True)
        assert sum(isinstance(one, TooBusyError) for one in results) == 200 - MOST_WAITING
        assert True not in results

    asyncio.run(ask())


@pytest.mark.parametrize("stranger", ["10.0.0.1", "2001:db8::{:x}"])
def test_a_list_of_words_from_one_address_leaves_room_for_a_right_one_that_was_never_seen(stranger):
    passwords = Passwords({"anna": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()})

    async def ask() -> None:
        words = [(basic("anna", f"word{n}"), stranger.format(n + 1)) for n in range(200)]
        crowd = [asyncio.create_task(passwords.allows(*word)) for word in words]
        await asyncio.sleep(0)
        assert await passwords.allows(basic("anna", "secret"), "10.0.0.2")
        assert True not in await asyncio.gather(*crowd, return_exceptions=True)

    asyncio.run(ask())


@pytest.mark.parametrize("addresses", [1, 4, 15, 30])
def test_a_list_of_words_from_many_addresses_leaves_room_for_a_right_one_and_each_has_its_turn(addresses):
    passwords = Passwords({"anna": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()})
    ended = []

    async def ask() -> None:
        async def word(n: int) -> None:
            assert not await passwords.allows(basic("anna", f"word{n}"), f"10.0.0.{n % addresses}")
            ended.append(n)

        crowd = [asyncio.create_task(word(n)) for n in range(200)]
        await asyncio.sleep(0)
        assert await passwords.allows(basic("anna", "secret"), "10.0.1.1")
        assert len(ended) <= addresses + 1
        results = await asyncio.gather(*crowd, return_exceptions=True)
        assert {type(one) for one in results} == {TooBusyError, type(None)}
        assert len(ended) <= MOST_WAITING
        assert not passwords._waiting
        assert not passwords._turns

    asyncio.run(ask())


def test_who_waits_no_more_keeps_nobody_from_his_turn():
    passwords = Passwords({"anna": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()})

    async def ask() -> None:
        crowd = [asyncio.create_task(passwords.allows(basic("anna", f"word{n}"), f"10.0.0.{n}")) for n in range(5)]
        await asyncio.sleep(0)
        for one in crowd:
            one.cancel()
        async with asyncio.timeout(5):
            assert await passwords.allows(basic("anna", "secret"), "10.0.1.1")
        await asyncio.gather(*crowd, return_exceptions=True)
        assert not passwords._waiting

    asyncio.run(ask())


def test_right_passwords_stay_known_when_only_the_certificate_changes():
    users = "{anna: '" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() + "'}"
    others = "{anna: '" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() + "', berta: '" + HASH + "'}"
    policy = made(f"basic_auth_users: {users}", "w", {})

    async def known(policy: Policy) -> bool:
        crowd = [asyncio.create_task(policy.admit(basic("anna", f"word{n}"))) for n in range(200)]
        await asyncio.sleep(0)
        try:
            await policy.admit(basic("anna", "secret"))
        except Refusal:
            return False
        finally:
            await asyncio.gather(*crowd, return_exceptions=True)
        return True

    assert not asyncio.run(known(policy))
    asyncio.run(policy.admit(basic("anna", "secret")))
    for text, stays in (
        (f"http_server_config: {{}}\nbasic_auth_users: {users}", True),
        (f"basic_auth_users: {others}", False),
    ):
        new = made(text, "w", {})
        new.follow(policy)
        assert asyncio.run(known(new)) is stays
        policy = new


def test_who_waits_for_a_check_when_the_configuration_changes_is_answered_by_the_new_one(monkeypatch):
    users = "basic_auth_users: {anna: '%s'}\n"
    before, after = (
        made(users % bcrypt.hashpw(password, bcrypt.gensalt(4)).decode(), "w", {}) for password in (b"old", b"new")
    )
    go, check = threading.Event(), before._passwords._check
    monkeypatch.setattr(before._passwords, "_check", lambda *asked: go.wait(30) and check(*asked))
    answers = {}
    with running(policy=before) as server:

        def ask(password: str) -> None:
            answers[password] = server.get("/-/healthy", Authorization=basic("anna", password)).status

        crowd = [threading.Thread(target=ask, args=(password,)) for password in ("one", "two", "old", "new")]
        for thread in crowd:
            thread.start()
        eventually(lambda: before._passwords._waiting.total() == 4)
        asyncio.run_coroutine_threadsafe(use(server.server, after), server.server._acceptor._loop).result(30)
        go.set()
        for thread in crowd:
            thread.join(30)
    assert answers == {"one": 401, "two": 401, "old": 401, "new": 200}


async def use(server: Server, policy: Policy) -> None:
    server.use(policy)


# --- policy -----------------------------------------------------------------------------------------------------------


def refused(policy: Policy, authorization: str = "") -> Refusal | None:
    try:
        asyncio.run(policy.admit(authorization))
    except Refusal as refusal:
        return refusal
    return None


@pytest.mark.parametrize(
    ("text", "open_"),
    [
        ("", True),
        ("tls_server_config: {" + PAIR + "}", True),
        (f"basic_auth_users: {{anna: '{HASH}'}}", True),
        ("tls_server_config: {" + PAIR + f"}}\nbasic_auth_users: {{anna: '{HASH}'}}", False),
        (
            "tls_server_config: {" + PAIR + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: c.pem}",
            False,
        ),
        ("tls_server_config: {" + PAIR + ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: c.pem}", True),
    ],
)
def test_it_is_open_to_all_unless_it_is_encrypted_and_asks_who_comes(files, text, open_):
    paths = {name: str(files / file) for name, file in (("cert", "c.pem"), ("key", "k.pem"), ("client_ca", "c.pem"))}
    assert made(text, "w", paths).open_to_all is open_


def test_a_limit_lets_a_burst_in_and_then_one_more_in_each_interval():
    now = [0.0]
    bucket = Bucket(2.0, 3, lambda: now[0])
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]
    now[0] = 1.9
    assert not bucket.take()
    now[0] = 2.0
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] = 1000.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_what_a_policy_refuses_has_its_status():
    assert refused(made("", "w", {})) is None
    users = made(f"basic_auth_users: {{anna: '{HASH}'}}", "w", {})
    no = refused(users)
    assert (no.status, no.headers) == (401, {"WWW-Authenticate": 'Basic realm="wg-exporter"'})
    assert refused(users, basic("anna", "secret")) is None
    few = made("rate_limit: {interval: 1h, burst: 1}", "w", {})
    assert refused(few) is None
    assert refused(few).status == 429
    assert refused(made("rate_limit: {interval: 0s, burst: 1}", "w", {})) is None
    assert refused(Policy(users.config, None, "broken")).status == 500
