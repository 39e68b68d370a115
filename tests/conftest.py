"""Fixtures of all tests, and the line at the end of a run that counts golden cases."""

from __future__ import annotations

import numpy as np
import pytest

import simulated_cupy
from cuda_arrays import cuda  # noqa: F401  (a fixture)
from dagnet import BackendError, DagNN, check_device
from devices import computes, device_params, devices
from errors import tables
from golden import load_case


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(20170827)


@pytest.fixture
def layers_in_turn(monkeypatch):
    """Networks run every layer in turn, unless they are told otherwise."""
    monkeypatch.setitem(DagNN.eval.__kwdefaults__, "plan", False)


@pytest.fixture(autouse=True)
def _no_plan(request):
    of_plan = request.node.get_closest_marker("of_plan")
    if request.config.getoption("--no-plan") and of_plan is None:
        request.getfixturevalue("layers_in_turn")


@pytest.fixture(autouse=True)
def pretrained(tmp_path_factory, monkeypatch):
    """The package has no weights of its own, whatever is in it; returns the missing folder."""
    folder = tmp_path_factory.getbasetemp() / "pretrained"
    monkeypatch.setattr("dsiam_net.shipped.pretrained_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def _gpu(request):
    """Tests with the marker ``gpu`` run on a card, or on the stand-in, or are skipped."""
    if request.node.get_closest_marker("gpu") is None:
        yield
    elif devices.simulated:
        with simulated_cupy.installed():
            yield
    else:
        try:
            check_device("gpu")
        except BackendError as exc:
            pytest.skip(str(exc))
        yield


@pytest.fixture
def device(request, _gpu, monkeypatch):
    """Where the test computes; tests that ``computes`` finds run on each device there is."""
    monkeypatch.setattr(devices, "current", request.param)
    return request.param


def pytest_generate_tests(metafunc):
    if "device" not in metafunc.fixturenames and computes(metafunc.function):
        params = device_params()
        if len(params) > 1:
            # In front, so that other fixtures of the test know the device.
            metafunc.fixturenames.insert(0, "device")
            metafunc.parametrize("device", params, indirect=True)


@pytest.fixture
def case(request):
    """The golden case that the test is parametrised with (see golden.golden)."""
    return load_case(*request.param, device=devices.current)


_golden_runs: dict[str, int] = {"run": 0, "skipped": 0}


def pytest_configure(config):
    devices.simulated = config.getoption("--simulate-gpu")


def pytest_addoption(parser):
    parser.addoption(
        "--simulate-gpu",
        action="store_true",
        help="run tests of the device 'gpu' on a strict stand-in for CuPy, simulated_cupy.py",
    )
    parser.addoption(
        "--require-goldens",
        action="store_true",
        help="fail the run if a golden case was skipped, or none was run",
    )
    parser.addoption(
        "--no-plan",
        action="store_true",
        help="evaluate networks with plan=False, but for those whose plan is what a test is of",
    )
    parser.addoption(
        "--errors", action="store_true", help="print the errors of goldens and gradient checks"
    )


def pytest_runtest_logreport(report):
    if "golden" not in report.keywords:
        return
    if report.skipped:
        _golden_runs["skipped"] += 1
    elif report.when == "call":
        _golden_runs["run"] += 1


def pytest_sessionfinish(session):
    if session.config.getoption("--require-goldens") and (
        _golden_runs["skipped"] or not _golden_runs["run"]
    ):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--errors"):
        terminalreporter.write_line("")
        for line in tables():
            terminalreporter.write_line(line)


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and any(_golden_runs.values()):
        reporter.write_line(
            f"golden cases: {_golden_runs['run']} run, {_golden_runs['skipped']} skipped"
        )
