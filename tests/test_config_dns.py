"""The section `dns`: what is on without it, and what contradicts itself."""

from __future__ import annotations

import pytest

from wg_exporter.config import Config, ConfigError, parse
from wg_exporter.config.dns import Dns


def test_names_are_looked_up_and_nothing_is_set_unless_somebody_says_so():
    assert Config().dns == Dns(resolve=True, reresolve=False)
    assert parse("dns: {}", "x").dns == Dns()
    assert parse("dns: {reresolve: true}", "x").dns == Dns(resolve=True, reresolve=True)
    assert parse("dns: {resolve: false}", "x").dns == Dns(resolve=False, reresolve=False)
    assert parse("dns: {resolve: false, reresolve: false}", "x").dns == Dns(resolve=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dns: {resolve: false, reresolve: true}", "dns.reresolve: needs what dns.resolve turns off"),
        ("dns: {reresolve: often}", "dns.reresolve"),
        ("dns: {resolv: false}", "dns.resolv: is not a known key"),
    ],
)
def test_what_can_not_be_meant_is_one_line(text, said):
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert said in str(caught.value)
    assert len(caught.value.problems) == 1
