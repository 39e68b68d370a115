"""The benchmark's own promises: PyTorch's network is ours, and a disagreement stops it.

That autograd finds the same derivatives is a proof of ours by somebody else's code.
"""

import json

import numpy as np
import pytest

import comparing
import cpu
import growth
import ours
import train_job
import works
from agreement import DisagreementError, check_double, check_single
from contender import Contender, ContenderError, Seconds
from dagnet import train_dag
from growth_figure import draw
from problems import FULL, SMALL, Size, convolution_work, step_problem, step_work, track_problem
from tiny import CHANNELS, SEARCH_SIZE, smooth_clip, tiny_unrolled
from toy_training import X, get_batch, options, toy_net

FRAMES = 3
# GF forward of a branch, counted by hand from the layers' sizes: 2 x filters x output cells.
BRANCH = {
    127: 2e-9 * (34848 * 59**2 + 307200 * 25**2 + 884736 * 10**2 + 663552 * 8**2 + 442368 * 6**2),
    255: 2e-9
    * (34848 * 123**2 + 307200 * 57**2 + 884736 * 26**2 + 663552 * 24**2 + 442368 * 22**2),
}


@pytest.fixture(scope="module")
def torch_side():
    pytest.importorskip("torch", reason="PyTorch is not here: pip install '.[bench]'")
    return pytest.importorskip("with_torch")


def tiny_problem(rng, crop_gradient="pool", dtype=np.float64):
    size = Size(FRAMES, CHANNELS, search_size=SEARCH_SIZE, crop_gradient=crop_gradient)
    net = tiny_unrolled(rng, frames=FRAMES, crop_gradient=crop_gradient)
    return step_problem(net, size, smooth_clip(rng, FRAMES), dtype)


def results_of(step):
    step.run()
    return step.results()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("crop_gradient", ["pool", "none"])
def test_autograd_finds_the_same_responses_losses_and_derivatives(
    rng, torch_side, crop_gradient, channels_last
):
    problem = tiny_problem(rng, crop_gradient)
    found = results_of(ours.Step(problem))
    assert sum(name.startswith("der ") for name in found) == 33
    check_double(found, results_of(torch_side.Step(problem, channels_last)))


@pytest.mark.parametrize("batch", [1, 4])
def test_both_sides_agree_where_the_crops_are_known_beforehand(rng, torch_side, batch):
    problem = tiny_problem(rng)
    found = results_of(ours.Step(problem, known_crops=True))
    check_double(found, results_of(torch_side.Step(problem, known_crops=True, batch=batch)))


def test_the_crop_gradient_changes_what_is_compared(rng, torch_side):
    found = [
        results_of(torch_side.Step(tiny_problem(np.random.default_rng(3), mode)))
        for mode in ("pool", "none")
    ]
    assert not np.allclose(*(result["der conv5f"] for result in found), rtol=1e-6)


def test_a_tracked_frame_gives_the_same_responses(torch_side):
    problem = track_problem(SMALL)
    found = results_of(ours.Track(problem))
    double = results_of(torch_side.Track({**problem, "dtype": "float64"}))
    check_single(found, [results_of(torch_side.Track(problem))], double)


def test_a_derivative_that_differs_is_refused():
    reference = {"score": np.ones(3), "der conv5f": np.array([1.0, 2.0])}
    check_double(reference, reference)
    with pytest.raises(DisagreementError, match="conv5f"):
        check_double({**reference, "der conv5f": np.array([1.0, 2.0 + 1e-6])}, reference)
    with pytest.raises(DisagreementError, match="names"):
        check_double({"score": np.ones(3)}, reference)


def test_single_precision_may_be_a_few_times_as_far_off_as_the_other():
    def single(distance):
        return {"score": np.ones(3), "der conv5f": np.array([1.0 + distance, 2.0])}

    check_single(single(3e-4), [single(1e-4)], single(0))
    with pytest.raises(DisagreementError, match="conv5f"):
        check_single(single(5e-4), [single(1e-4)], single(0))


def test_derivatives_that_are_zero_are_compared_with_those_of_the_filters():
    reference = {"der conv1b": np.array([1e-17]), "der conv1f": np.array([1.0])}
    check_double({**reference, "der conv1b": np.array([-3e-12])}, reference)
    with pytest.raises(DisagreementError, match="conv1b"):
        check_double({**reference, "der conv1b": np.array([1e-6])}, reference)


@pytest.mark.parametrize("side", [127, 255])
def test_the_arithmetic_of_a_branch_is_counted(side):
    assert sum(convolution_work(FULL, side).values()) == pytest.approx(1e9 * BRANCH[side])


def test_the_arithmetic_of_a_step_has_three_products_a_convolution():
    first = {side: convolution_work(FULL, side)["conv1"] / 1e9 for side in BRANCH}
    # No crop passes a derivative on, so conv1 is not differentiated by its input.
    without = 11 * (3 * BRANCH[127] - first[127]) + 29 * (3 * BRANCH[255] - first[255])
    assert step_work(FULL, known_crops=True) == pytest.approx(without)
    # All crops of frames 2 to 10, and the masked regions, which are made of crops.
    passed_on = 9 * first[127] + 27 * first[255]
    assert step_work(FULL) == pytest.approx(without + passed_on)


def test_a_side_runs_in_a_process_of_its_own_and_reports_its_errors(rng):
    with Contender("ours", threads=1) as contender:
        contender.make("Step", tiny_problem(rng))
        first, second = contender.run(2)
        assert min(first.wall, second.wall) > 0
        before, peak = contender.memory()
        assert 0 < before <= peak
        assert contender.results()["score"].shape == (FRAMES, 7, 7)
        with pytest.raises(ContenderError, match="AttributeError"):
            contender.make("Nothing")


def growth_rows(series="frames", values=(2, 5, 10)):
    return [
        growth.Row(
            series, v, 0.4 * v, 0.375 * v, 0.5 * v, 0.75 * v, 80, 90 + 50 * v, 45 * v, np.inf
        )
        for v in values
    ]


def test_rows_of_the_growth_are_read_as_they_were_written(tmp_path):
    rows = growth_rows()
    growth.write_rows(tmp_path / "growth.csv", rows)
    assert growth.read_rows(tmp_path / "growth.csv") == rows


def test_the_growth_is_drawn_with_the_line_through_its_points():
    figure = draw(growth_rows() + growth_rows("cores", (1, 2)))
    time, memory, layers, cores = figure.axes
    labels = [text.get_text() for text in time.get_legend().get_texts()]
    assert "0.00 s + 0.400 s a frame" in [label.replace("-0.00", "0.00") for label in labels]
    assert [text.get_text() for text in layers.texts] == ["not measured"]
    assert cores.get_legend() is not None and memory.get_legend() is not None


@pytest.mark.parametrize(
    "main, arguments, said",
    [
        (cpu.main, ["--rounds", "0"], "--rounds must be at least 1"),
        (cpu.main, ["--work", "nothing"], "invalid choice"),
        (growth.main, ["--frames", "0"], "--frames must be at least 1"),
        (train_job.main, ["data", "--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(capsys, main, arguments, said):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_ratios_are_taken_round_by_round():
    def measured(*walls):
        return comparing.Measured([Seconds(w, 2 * w) for w in walls], (50.0, 100.0))

    sides = {comparing.OURS: measured(1, 3), comparing.NCHW: measured(2, 4)}
    comparison = comparing.Comparison("step", works.WORKS["step"], 1.0, sides, [], "")
    assert comparison.ratio(comparing.NCHW) == pytest.approx([0.5, 0.75])
    assert comparison.processor_ratio(comparing.NCHW) == pytest.approx(2 / 3)


def test_the_clips_are_in_the_order_in_which_training_takes_them(tmp_path):
    seen = []

    def noting(indexes, mode, epoch):
        seen.extend(indexes)
        return get_batch(indexes, mode, epoch)

    once = options(tmp_path, batch_size=1, random_seed=train_job.SEED)
    train_dag(toy_net(), noting, range(len(X)), options=once)
    assert train_job.as_trained(list(range(len(X)))) == seen


@pytest.mark.slow
def test_the_benchmark_prints_its_tables_and_writes_its_record(torch_side, tmp_path, capsys):
    record = tmp_path / "record.json"
    works = ["--work", "small", "memory", "track"]
    cpu.main([*works, "--quick", "--threads", "1", "--json", str(record)])
    printed = capsys.readouterr().out
    content = json.loads(record.read_text())
    for name in ("small", "memory", "track"):
        assert f"| {name} | {comparing.OURS} |" in printed
        for side in (comparing.NCHW, comparing.CHANNELS_LAST):
            ratios = content["works"][name]["ratios"][side]["rounds"]
            assert len(ratios) == (1 if name == "memory" else 2)
            assert min(ratios) > 0
