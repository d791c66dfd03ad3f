"""What holds while a certificate and its key are no pair: the one before, for a while, and all else as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.certificates import certificate
from tests.serving import eventually
from wg_exporter.config.tree import Problem
from wg_exporter.daemon.policies import Policies

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.web.policy import Policy

TLS = "tls_server_config: {cert_file: c.pem, key_file: k.pem}\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pairs")
    for name in ("one", "two"):
        certificate(found, name)
    return found


class Used(Policies):
    """Remembers what was in use."""

    def __init__(self, directory: Path, patience: float) -> None:
        super().__init__("web.yml", patience)
        self.directory = directory
        self.seen: list[Policy] = []
        self.use = self.seen.append
        self.first(TLS, self.paths("one", "one"))
        self.before = self.now.tls

    def paths(self, cert: str, key: str) -> dict[str, str]:
        return {"cert": str(self.directory / f"{cert}.crt"), "key": str(self.directory / f"{key}.key")}

    def mixed(self, text: str = TLS) -> None:
        self.take(text, self.paths("two", "one"))


def test_the_pair_before_stays_in_use_until_the_new_one_is_whole(directory):
    policies = Used(directory, 60)
    policies.mixed()
    assert (policies.now.tls, policies.now.problem) == (policies.before, "")
    policies.take(TLS, policies.paths("two", "two"))
    assert policies.now.tls is not policies.before
    assert policies._waiting is None


def test_it_does_not_stay_for_longer_however_often_the_files_change(directory):
    policies = Used(directory, 0.5)
    policies.mixed()
    waiting = policies._waiting
    policies.mixed()
    policies.lack(TLS, (Problem("web.yml", "k.pem: No such file"),))
    assert policies._waiting is waiting
    eventually(lambda: bool(policies.now.problem))
    assert policies.now.problem == "web.yml: k.pem: No such file"
    policies.mixed()
    assert policies.now.problem, "a pair that was given up does not come back"
    policies.take(TLS, policies.paths("one", "one"))
    assert not policies.now.problem


def test_whoever_wants_tls_to_be_another_waits_for_nobody(directory):
    policies = Used(directory, 60)
    policies.mixed(TLS.replace("}", ", min_version: TLS13}"))
    assert policies.now.problem


def test_a_mistake_beside_it_is_no_pair_that_comes(directory):
    policies = Used(directory, 60)
    policies.mixed()
    policies.mixed(TLS + "nonsense: 1\n")
    assert "nonsense" in policies.now.problem
    policies = Used(directory, 60)
    policies.fail((Problem("web.yml", "can't be read"),))
    assert policies.now.problem == "web.yml: can't be read"


def test_without_a_certificate_before_there_is_none_to_stay(directory):
    policies = Policies("web.yml", 60)
    policies.first("", {})
    policies.take(TLS, {"cert": str(directory / "two.crt"), "key": str(directory / "one.key")})
    assert policies.now.problem


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_that_is_empty_for_a_moment_lets_nobody_in(directory, text, caplog):
    """Whoever writes it begins with an empty one."""
    policies = Used(directory, 60)
    policies.take(text, {})
    assert policies.now.problem
    assert policies.now.tls is policies.before
    (line,) = caplog.records
    assert line.fields["problem"] == "web.yml: is empty now; write {} if anybody may ask"
    policies.take("{}", {})
    assert not policies.now.problem
    assert policies.now.tls is None
