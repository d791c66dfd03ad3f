"""Fixtures that every test may use, and the rule that CI skips nothing.

Tests that need root or a tool skip, with the reason printed, where it is missing. In CI (the environment has CI=true)
all of it is there, so a skip is a hole in the net: it counts as a failure.
"""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import lanes, surroundings
from tests.lab import Lab, lab_prefix, missing
from tests.lab.anyone import open_to_all
from tests.rigs import Rig
from wg_exporter import log

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.grafana import Grafana
    from tests.lab.anyone import Anyone


# 0.2 s for an example is little where others work too, and so is a second for the input of the first ones.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


class AtOnce:
    """Names a test as soon as it fails: pytest does so at the end, and a run that is cut off has none."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reporter = self._plugins.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            problem = crash.message if crash else report.longreprtext
            reporter.write_line(f"\n{report.when} failed: {report.nodeid}: {problem.partition(chr(10))[0]}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(AtOnce(config))
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None):
        surroundings.settle()
    else:  # the lanes settle by themselves, and have to see what is outside
        surroundings.begin()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", action="store_true", help="only tests that make up their input, new each time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.fuzz:
        others = [item for item in items if not getattr(getattr(item, "obj", None), "is_hypothesis_test", False)]
        items[:] = [item for item in items if item not in set(others)]
        config.hook.pytest_deselected(items=others)
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Packets are counted: some hold a time stamp, and each lane would know their tests by another name."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> lanes.Lanes:
    return lanes.Lanes(config, log)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up the log; the next test finds it as it was."""
    loggers = [logging.getLogger(), logging.getLogger(log.ROOT)]
    before = [(logger, logger.level, [*logger.handlers]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = [one for one in logger.handlers if one in handlers or not isinstance(one, log._Handler)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """An empty lab of userspace WireGuard; all that is built in it goes when the test ends, however it ends."""
    lacking = missing()
    if not shutil.which("wireguard-go"):
        lacking.append("wireguard-go: no such command; apt-get install wireguard-go")
    if lacking:
        pytest.skip("; ".join(dict.fromkeys(lacking)))
    with Lab(lab_prefix(), tmp_path / "lab", kernel=False) as lab:
        yield lab


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Exporters over a fake host; whatever is stuck is let go when the test ends."""
    rig = Rig()
    yield rig
    rig.stop()


@pytest.fixture(scope="session")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grafana]:
    """The dashboards over a network that is known to the last number: one Prometheus for all tests."""
    from tests.dashboards_known import END, VALUES, text
    from tests.grafana import over

    if not shutil.which("prometheus"):
        pytest.skip("prometheus: no such command; apt-get install prometheus")
    with over(tmp_path_factory.mktemp("known"), text(), END, VALUES) as grafana:
        yield grafana


@pytest.fixture(scope="session")
def anyone() -> Iterator[Anyone]:
    """How to run the program as another user."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv: apt-get install util-linux")
    with open_to_all() as anyone:
        yield anyone


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: CI skips nothing, but this was: {reason}"
