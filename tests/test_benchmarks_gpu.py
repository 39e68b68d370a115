"""The benchmark of the GPU: what can be proved of it without one, on the stand-in for CuPy.

PyTorch runs on the CPU in place of its GPU; its CUDA graphs are functions that are called again.
"""

import json
import pickle
import sys
import time
from functools import partial
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

import card
import comparing
import contender
import gpu
import ours
from agreement import check_double, check_single
from contender import ContenderError
from dagnet import BackendError
from dagnet.graph_capture import StepGraphs
from devices import devices
from problems import SMALL, track_problem
from profiling import layer_times
from test_benchmarks import results_of, tiny_problem, torch_side  # noqa: F401 (a fixture)

FULL_PARAMETERS = 33


class TimedEvent:
    """CuPy's event, with the clock of the host."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.time = None

    def record(self, stream=None):
        self.time = time.perf_counter()

    def synchronize(self):
        assert self.time is not None, "the event was not recorded"


def elapsed(start, end):
    """Milliseconds, as CuPy has them."""
    return (end.time - start.time) * 1e3


@pytest.fixture
def timed_card(monkeypatch):
    """A card whose clock can be read: the real one, or the stand-in with what it lacks."""
    if not devices.simulated:
        return
    cupy, taken = sys.modules["cupy"], count(1 << 30, 3 << 20)
    properties = {
        "name": b"Stand-in",
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 1,
        "totalGlobalMem": 8 << 30,
    }
    for name, value in {
        "deviceSynchronize": lambda: None,
        "getDevice": lambda: 0,
        "getDeviceProperties": lambda device: properties,
        "driverGetVersion": lambda: 13000,
        "runtimeGetVersion": lambda: 12090,
        "memGetInfo": lambda: ((8 << 30) - next(taken), 8 << 30),
    }.items():
        monkeypatch.setattr(cupy.cuda.runtime, name, value, raising=False)
    monkeypatch.setattr(cupy.cuda, "Event", TimedEvent, raising=False)
    monkeypatch.setattr(cupy.cuda, "get_elapsed_time", elapsed, raising=False)
    monkeypatch.setattr(cupy, "__version__", "14.2.0", raising=False)


class HereContender(contender.Contender):
    """A side in this process, whose messages are pickled all the same."""

    def __init__(self, module, threads, environment=None):
        self._server = contender._Server(module, threads)
        self._module = module

    def _ask(self, request, *arguments):
        request, arguments = pickle.loads(pickle.dumps((request, arguments)))
        try:
            return pickle.loads(pickle.dumps(getattr(self._server, request)(*arguments)))
        except Exception as exc:
            raise ContenderError(f"{self._module}: {type(exc).__name__}: {exc}") from exc

    def close(self):
        pass


@pytest.fixture
def torch_on_card(torch_side, monkeypatch):  # noqa: F811
    """PyTorch's side of the GPU, on the CPU; what was captured is called again."""
    torch = torch_side.torch
    monkeypatch.setitem(torch_side.DEVICES, "gpu", "cpu")
    monkeypatch.setattr(torch_side, "prepare", lambda device, tf32: None)
    monkeypatch.setattr(torch_side, "wait", lambda device: None)
    taken = count(1 << 30, 6 << 20)
    monkeypatch.setattr(torch_side, "card_taken", lambda device: next(taken))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)

    def capture(function):
        for _ in range(torch_side.RUNS_BEFORE_CAPTURE):
            function()
        return function

    monkeypatch.setattr(torch_side, "capture", capture)
    return torch_side


# Our side


@pytest.mark.gpu
@pytest.mark.parametrize("known_crops, graph", [(False, False), (True, False), (False, True)])
def test_our_step_on_a_device_agrees_with_the_cpu(rng, timed_card, known_crops, graph):
    problem = tiny_problem(rng)
    expected = results_of(ours.Step(problem, known_crops))
    step = ours.Step(problem, known_crops, device="gpu", graph=graph)
    found = results_of(step)
    assert bool(graph and step.graphs.plans()) == graph
    assert sum(name.startswith("der ") for name in found) == FULL_PARAMETERS
    check_double(found, expected)


@pytest.mark.gpu
def test_a_step_of_ours_that_cannot_be_captured_is_told(rng, timed_card, monkeypatch):
    def fail(self, *arguments):
        raise RuntimeError("no capture")

    monkeypatch.setattr(StepGraphs, "_capture", fail)
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="no capture"):
        ours.Step(tiny_problem(rng), device="gpu", graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("on_card", [False, True])
@pytest.mark.parametrize("followed", [1, 3])
def test_our_tracked_frame_on_a_device_agrees_with_the_cpu(timed_card, followed, on_card):
    problem = track_problem(SMALL)
    expected = results_of(ours.Track(problem))["score"]
    found = results_of(ours.Track(problem, "gpu", followed, on_card))["score"]
    assert found.shape == (followed * len(expected), *expected.shape[1:])
    for one in np.split(found, followed):
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.gpu
def test_every_layer_of_a_step_is_profiled(rng, timed_card, monkeypatch):
    monkeypatch.setenv("DSIAM_CUDA", "0")
    step = ours.Step(tiny_problem(rng), device="gpu")
    rows = {row.kind: row for row in layer_times(step.net, step.run, 2)}
    plan = step.net.plan()
    kinds = [type(unit.block).__name__ for unit in plan.units]
    assert set(rows) >= set(kinds)
    assert rows["Conv"].calls == kinds.count("Conv")
    assert min(row.forward for row in rows.values()) > 0
    assert rows["Conv"].backward > 0
    assert pickle.loads(pickle.dumps(step.profile(1)))[0].calls > 0


def test_bytes_of_a_network_are_those_of_its_layers(rng):
    # By hand: a branch's convolutions alone, forward and backward.
    step = ours.Step(tiny_problem(rng))
    plan, sizes = step._plan(), step._input_sizes()
    forward = ours.traffic(step.net, plan, sizes, backward=False)
    both = ours.traffic(step.net, plan, sizes, backward=True)
    assert 2 * forward < both < 3.5 * forward
    every = step.net.get_var_sizes(sizes)
    expected = 0.0
    for unit in plan.units:
        names = [step.net.vars[v].name for v in (*unit.inputs, *unit.outputs)]
        expected += 4 * np.nansum([np.prod(every[name]) for name in names])
        expected += sum(step.net.params[p].value.nbytes // 2 for p in unit.params)
    assert forward == pytest.approx(expected)


# PyTorch's side


def test_several_targets_in_a_batch_give_what_each_gives(torch_side):  # noqa: F811
    problem = track_problem(SMALL)
    one = results_of(torch_side.Track(problem))["score"]
    several = results_of(torch_side.Track(problem, followed=3))["score"]
    for part in np.split(several, 3):
        np.testing.assert_allclose(part, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_templates_are_correlated_with_their_own_regions(torch_side, rng):  # noqa: F811
    torch = torch_side.torch
    net = torch_side._network({**tiny_problem(rng), "dtype": "float64"}, False, "cpu")
    z = torch.from_numpy(rng.standard_normal((2, 5, 3, 3)))
    x = torch.from_numpy(rng.standard_normal((6, 5, 7, 8)))
    maps = net.correlate(z, x)
    for i in range(6):
        expected = torch.nn.functional.conv2d(x[i : i + 1], z[i // 3 : i // 3 + 1])
        torch.testing.assert_close(maps[i : i + 1], expected)


@pytest.mark.parametrize("known_crops", [False, True])
def test_a_captured_step_gives_what_the_step_gives(rng, torch_on_card, known_crops):
    problem = tiny_problem(rng)
    options = {"known_crops": known_crops, "device": "gpu", "graph": True}
    check_double(
        results_of(torch_on_card.Step(problem, **options)),
        results_of(torch_on_card.Step(problem, known_crops=known_crops)),
    )


def test_a_captured_frame_writes_its_filters_in_place(torch_on_card):
    problem = track_problem(SMALL)
    track = torch_on_card.Track(problem, device="gpu", graph=True)
    before = [spectrum.data_ptr() for role in track.filters for spectrum in role]
    found = results_of(track)
    assert [spectrum.data_ptr() for role in track.filters for spectrum in role] == before
    eager = results_of(torch_on_card.Track(problem))
    double = results_of(torch_on_card.Track({**problem, "dtype": "float64"}))
    check_single(found, [eager], double)


class FakeCuda:
    """What ``capture`` asks of ``torch.cuda``, noted in its order."""

    def __init__(self):
        self.said = []
        self.Stream = lambda: SimpleNamespace(wait_stream=lambda s: self.said.append("wait"))
        self.current_stream = self.Stream
        self.CUDAGraph = lambda: SimpleNamespace(replay=lambda: self.said.append("replay"))

    def stream(self, stream):
        return self._block("side")

    def graph(self, graph):
        return self._block("capture")

    def _block(self, name):
        said = self.said

        class Block:
            def __enter__(self):
                said.append(name)

            def __exit__(self, *exc):
                said.append(f"end of {name}")

        return Block()


def test_a_graph_is_captured_after_runs_on_another_stream(torch_side, monkeypatch):  # noqa: F811
    cuda = FakeCuda()
    monkeypatch.setattr(torch_side.torch, "cuda", cuda)
    replay = torch_side.capture(lambda: cuda.said.append("run"))
    replay()
    runs = ["run"] * torch_side.RUNS_BEFORE_CAPTURE
    assert cuda.said == [
        *("wait", "side", *runs, "end of side", "wait"),
        *("capture", "run", "end of capture", "replay"),
    ]


def test_without_a_gpu_pytorch_says_so(torch_side):  # noqa: F811
    if torch_side.torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(RuntimeError, match="no GPU"):
        torch_side.prepare("gpu", False)


@pytest.mark.slow
def test_a_compiled_step_gives_what_the_step_gives(rng, torch_on_card, monkeypatch):
    # Traced and differentiated as for every compiler; making code of it takes minutes.
    compiling = partial(torch_on_card.torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch_on_card.torch, "compile", compiling)
    problem = tiny_problem(rng)
    check_double(
        results_of(torch_on_card.Step(problem, compiled=True)),
        results_of(torch_on_card.Step(problem)),
    )
    frame = track_problem(SMALL)
    found, expected = (
        results_of(torch_on_card.Track(frame, followed=2, compiled=compiled))["score"]
        for compiled in (True, False)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# The command


@pytest.mark.gpu
def test_rates_are_of_products_and_copies(timed_card):
    rates = card.rates(side=64, copied=1024)
    assert set(rates) == {"single", "tf32", "copy"}
    assert min(rates.values()) > 0
    described = card.describe()
    assert described["driver's CUDA"].count(".") == 1
    if devices.simulated:
        assert described["card"] == "Stand-in"
        assert (described["driver's CUDA"], described["CuPy's CUDA"]) == ("13.0", "12.9")


def tiny_works(monkeypatch):
    """The works at a size that runs in moments."""
    small = {
        name: comparing.replace(work, size=SMALL, repeats=1, followed=min(work.followed, 2))
        for name, work in gpu.WORKS.items()
    }
    for name, work in small.items():
        monkeypatch.setitem(gpu.WORKS, name, work)
    monkeypatch.setattr(comparing, "Contender", HereContender)
    monkeypatch.setitem(gpu.FRAMES_A_SECOND, 2, 4000)


@pytest.mark.gpu
def test_the_benchmark_measures_every_work_and_writes_its_record(
    timed_card, torch_on_card, monkeypatch, tmp_path, capsys
):
    if not devices.simulated:
        pytest.skip("on a card the command itself is run")
    tiny_works(monkeypatch)
    # CuPy's functions: emulated kernels take longer, and have tests of their own.
    monkeypatch.setenv("DSIAM_CUDA", "0")
    monkeypatch.setattr(gpu, "PROFILED_RUNS", 1)
    monkeypatch.setattr(gpu, "Contender", HereContender)
    monkeypatch.setattr(card.rates, "__defaults__", (64, 1024))

    def refuse(self):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch_on_card.TorchDSiam, "compiled", refuse)
    files = [tmp_path / "record.json", tmp_path / "tables.md"]
    sides = ["plain", "eager", "compile", "torch-graph"]
    gpu.main(
        [
            *("--quick", "--profile", "--threads", "1", "--sides", *sides),
            *("--work", "step", "track-32", "memory", "--precision", "single"),
            *("--json", str(files[0]), "--out", str(files[1])),
        ]
    )
    printed = capsys.readouterr().out
    content = json.loads(files[0].read_text())
    written = files[1].read_text()
    assert written.strip() in printed
    works = content["works"]
    assert list(works) == ["step, single", "track-32, single", "memory, single"]
    for name, work in works.items():
        assert set(work["sides"]) == {comparing.OURS, gpu.EAGER, "PyTorch CUDA graph"}, name
        assert "no compiler" in work["failed"]["torch.compile"]
        for side in ("torch.compile", *work["sides"]):
            assert f"| {name} | {side} |" in written
        assert set(work["ratios"]) == {comparing.OURS}
        assert work["floors, seconds"]["products"] > 0
    assert works["memory, single"]["ratios"][comparing.OURS][gpu.EAGER] == [0.5]
    assert works["step, single"]["floors, seconds"]["copies"] > 0
    # What both sides compute was compared, each where it can be.
    said = " ".join(works["step, single"]["agreement"])
    assert "double precision, this project" in said
    assert "single precision, PyTorch CUDA graph" in said
    assert content["machine"]["card"] == "Stand-in"
    assert {row["kind"] for row in content["profiles"]["step, single"]} >= {"Conv", "RLR"}
    assert "| step, single | Conv |" in written


@pytest.mark.gpu
def test_a_side_that_disagrees_is_not_timed_and_the_others_are(
    timed_card, torch_on_card, monkeypatch
):
    if not devices.simulated:
        pytest.skip("on a card both sides have TF32")
    tiny_works(monkeypatch)
    monkeypatch.setenv("DSIAM_CUDA", "0")
    # Ours rounds to TF32 on the stand-in, and PyTorch on the CPU does not.
    work, asked = comparing.replace(gpu.WORKS["track"], tf32=True), []
    sides = [gpu.SIDES[name] for name in ("plain", "eager")]
    found = comparing.compare("track", work, comparing.Effort(1, 1), asked.append, sides)
    assert set(found.sides) == {gpu.EAGER}
    assert "do not agree" in found.failed[comparing.OURS]
    assert f"track: {comparing.OURS}" not in asked
    assert gpu.target_rows(found) == []


def test_tables_name_the_best_of_pytorch_and_the_targets():
    def measured(*milliseconds):
        runs = [contender.Seconds(m / 1e3, m / 1e3, m / 2e3) for m in milliseconds]
        return comparing.Measured(runs, (50.0, 100.0), (1000.0, 1000.0 + milliseconds[0]))

    sides = {
        comparing.OURS: measured(4.0, 4.0),
        gpu.EAGER: measured(16.0, 16.0),
        "PyTorch CUDA graph": measured(8.0, 8.0),
    }
    rates = {"single": 50e3, "tf32": 400e3, "copy": 4e3}
    step = comparing.Comparison(
        *("step, tf32", comparing.replace(gpu.WORKS["step"], tf32=True), 800.0, sides, [], "", 8.0),
        failed={"torch.compile": "it | broke\n" + "x" * 500},
    )
    assert gpu.floors(step, rates) == {"products": 800 / 400e3, "copies": 8 / 4e3}
    track = comparing.Comparison("track, single", gpu.WORKS["track"], 28.0, sides, [], "")
    memory = comparing.Comparison("memory, single", gpu.WORKS["memory"], 800.0, sides, [], "")
    lines = gpu.tables([step, track, memory], {}, rates)
    text = "\n".join(lines)
    ratio = "0.25 (0.25 to 0.25) | 0.50 | PyTorch CUDA graph | 0.50 (0.50 to 0.50) | 0.90 |"
    assert f"| step, tf32 | this project | {ratio}  |  |" in text
    assert (
        "| track, single | this project | 4.000 (4.000 to 4.000) | 2.000 | 250 | 7.1 |  |" in text
    )
    assert text.count("| 250 | 500 |") == 1
    assert "| memory, single | this project | 0.25 | 0.60 | PyTorch CUDA graph | 0.50 |  |" in text
    assert "| memory, single | this project | 4 | 1000 |" in text
    for block in text.strip().split("\n\n"):
        rows = block.splitlines()
        assert len({row.count("|") for row in rows}) == 1, rows
    assert "it / broke" in text and "x" * 200 not in text


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--work", "nothing"], "invalid choice"),
        (["--sides", "plain"], "needs eager"),
        (["--precision", "half"], "invalid choice"),
    ],
)
def test_options_that_make_no_sense_are_refused(capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        gpu.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_memory_is_measured_in_one_precision():
    works = gpu.chosen_works(gpu.parse(["--work", "step", "memory"]))
    assert [(name, work.tf32) for name, work in works.items()] == [
        ("step, single", False),
        ("memory, single", False),
        ("step, tf32", True),
    ]


def test_without_a_card_the_command_says_what_is_missing(monkeypatch):
    def missing(device):
        raise BackendError("device 'gpu': no driver")

    monkeypatch.setattr(gpu, "check_device", missing)
    monkeypatch.setattr(gpu, "require_torch", lambda: None)
    with pytest.raises(BackendError, match="no driver"):
        gpu.main(["--quick"])
