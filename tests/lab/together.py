"""Tests that wait more than they work, run at the same time.

    @scenario(seconds=30)
    def test_a_peer_that_is_cut_off_is_unreachable(lab):
        ...

Each has a lab and a thread of its own. The first one that pytest comes to starts all of its module that were chosen,
the longest first; then each waits for its own to end, and fails as it does.
"""

from __future__ import annotations

import functools
import inspect
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from wg_exporter.cli.netlab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AT_ONCE = 12

Results = dict[str, "Future[None]"]
_RESULTS = pytest.StashKey[Results]()


def scenario(*, seconds: float = 5.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of a function of a lab and parameters; `seconds` is about how long it takes."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def test(request: pytest.FixtureRequest, **_parameters: object) -> None:
            _results(request)[request.node.nodeid].result()

        names = [name for name in inspect.signature(function).parameters if name != "lab"]
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("request", *names)]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        test.scenario = function  # type: ignore[attr-defined]
        test.seconds = seconds  # type: ignore[attr-defined]
        return pytest.mark.lab(test)

    return decorate


def _results(request: pytest.FixtureRequest) -> Results:
    module = request.node.getparent(pytest.Module)
    if _RESULTS not in module.stash:
        request.getfixturevalue("lab")  # skips, with its reason, where there can be none
        module.stash[_RESULTS] = _start(module, request.getfixturevalue("tmp_path_factory").mktemp("labs"))
    return module.stash[_RESULTS]


def _start(module: pytest.Module, directory: Path) -> Results:
    items = [
        i for i in module.session.items if i.getparent(pytest.Module) is module and hasattr(i.function, "scenario")
    ]
    items.sort(key=lambda item: -item.function.seconds)
    pool = ThreadPoolExecutor(AT_ONCE)
    module.addfinalizer(lambda: pool.shutdown(cancel_futures=True))
    run = secrets.token_hex(2)  # one for all: drawn for each, two might be the same
    return {
        item.nodeid: pool.submit(_in_a_lab, item, f"wgp{run}{number:02d}-", directory)
        for number, item in enumerate(items)
    }


def _in_a_lab(item: Any, prefix: str, directory: Path) -> None:
    with Lab(prefix, directory / prefix, kernel=False) as lab:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        item.function.scenario(lab, **parameters)
