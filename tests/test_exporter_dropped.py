"""An exporter that nobody stops: it says so when it is dropped, and leaves no thread behind."""

from __future__ import annotations

import gc
import threading
import time
import warnings

import pytest

from tests.rows import FakeHost, FakeTime, device, link, peer
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter


@pytest.fixture(autouse=True)
def nothing_of_before():
    """What earlier tests have dropped says so now, and not in the middle of one here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def threads():
    """Those that began since, and live."""
    before = set(threading.enumerate())
    return lambda: set(threading.enumerate()) - before


def made():
    host = FakeHost()
    host.devices, host.links = [device(peer(1))], [link()]
    return Exporter(Config(), None, host.sources, FakeTime().clock, every=0.01)


def of_exporters(told):
    """A thread of an earlier test that ends meanwhile may drop something else."""
    return [str(one.message) for one in told if "Exporter" in str(one.message)]


def all_ended(threads):
    end = time.monotonic() + 30
    while threads() and time.monotonic() < end:
        time.sleep(0.005)
    return not threads()


def test_one_that_is_dropped_while_it_ticks_says_so_and_its_threads_end(threads):
    exporter = made()
    exporter.start()
    assert exporter.wait_until_ready(30)
    assert threads()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del exporter
        assert all_ended(threads)
    assert of_exporters(told) == ["Exporter was dropped without being stopped"]


def test_one_that_never_ticked_says_so_too(threads):
    exporter = made()
    exporter.scrape("")
    with pytest.warns(ResourceWarning, match="dropped"):
        del exporter
    assert all_ended(threads)


def test_one_that_was_stopped_says_nothing(threads):
    exporter = made()
    exporter.start()
    exporter.stop()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del exporter
        assert all_ended(threads)
    assert not of_exporters(told)


def test_one_that_could_not_be_made_says_nothing_but_why():
    unraisable = []

    def sources(config, clock):
        raise OSError("no more files")

    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patched.setattr("sys.unraisablehook", unraisable.append)
        with pytest.raises(OSError, match="no more files"):
            Exporter(Config(), None, sources)
        gc.collect()
    assert not unraisable
    assert not of_exporters(told)
