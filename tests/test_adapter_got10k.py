"""Our trackers and sequences in the got10k toolkit's own OTB experiment."""

import builtins

import numpy as np
import pytest

from analysing import tiny_net
from dsiam_net.adapters.got10k import import_toolkit, lay_out_otb, toolkit_tracker
from dsiam_net.evaluation.protocol import PROTOCOLS
from dsiam_net.evaluation.report import evaluate
from dsiam_net.sequences import find_sequences
from dsiam_net.tracker import create_tracker
from evaluation_stubs import DriftingTracker, write_sequence
from golden import SHARED

BOUND = 1e-6
# The toolkit writes boxes with three decimals.
ROUNDING = 0.0005 + 1e-9
FRAMES = 5


@pytest.fixture
def experiments():
    import matplotlib

    matplotlib.use("Agg")
    return pytest.importorskip(
        "got10k.experiments",
        reason="the got10k toolkit is not installed (pip install got10k six)",
        exc_type=ImportError,
    )


def run_otb(experiments, tmp_path, monkeypatch, names, trackers):
    """Run the toolkit's experiment over laid out sequences; its report, and where its boxes are."""
    folders = sorted({name.partition(".")[0] for name in names})
    versions = experiments.ExperimentOTB.__init__.__globals__["OTB"]._OTB__version_dict
    monkeypatch.setitem(versions, "ours", folders)
    experiment = experiments.ExperimentOTB(
        tmp_path / "OTB", "ours", str(tmp_path / "results"), str(tmp_path / "reports")
    )
    assert experiment.dataset.seq_names == list(names)
    for tracker in trackers:
        experiment.run(tracker)
    return experiment.report([t.name for t in trackers]), tmp_path / "results" / "OTBours"


def assert_reports_agree(theirs, ours, names):
    """Curves, scores and speeds of every tracker on every sequence and overall."""
    for tracker, report in theirs.items():
        scored = ours.trackers[tracker]
        pairs = [(scored.overall, report["overall"])]
        pairs += [(scored.scores[names[name]], s) for name, s in report["seq_wise"].items()]
        assert len(pairs) == len(names) + 1 and not scored.problems
        for our, their in pairs:
            assert our.auc == pytest.approx(their["success_score"], abs=BOUND)
            assert our.precision == pytest.approx(their["precision_score"], abs=BOUND)
            assert our.sr50 == pytest.approx(their["success_rate"], abs=BOUND)
            assert our.success == pytest.approx(np.array(their["success_curve"]), abs=BOUND)
            assert our.centre == pytest.approx(np.array(their["precision_curve"]), abs=BOUND)
            assert our.fps == pytest.approx(their["speed_fps"], rel=BOUND)


class Near:
    """Answers with boxes near the true ones of the sequence it was told."""

    def __init__(self, rng, sequences):
        self.rng, self.by_first = rng, {tuple(s.boxes[0]): s.boxes for s in sequences}

    def init(self, image, box):
        self.boxes = iter(self.by_first[tuple(box)][1:])

    def update(self, image):
        return next(self.boxes) + self.rng.normal(0, self.rng.choice([1, 4, 16]), 4) * [1, 1, 0, 0]


@pytest.mark.skipif(
    not (SHARED / "sequences").is_dir(), reason="the real sequences are not there ($DSIAM_SHARED)"
)
def test_the_toolkits_report_on_the_real_sequences_equals_ours(
    experiments, tmp_path, monkeypatch, rng, capsys
):
    sequences = find_sequences([SHARED / "sequences"])
    names = lay_out_otb(sequences, tmp_path / "OTB")
    assert len(names) == 23 and names["Jogging.1"] == "Jogging"
    trackers = [
        toolkit_tracker(DriftingTracker(), "drifting"),
        toolkit_tracker(Near(rng, sequences), "near"),
    ]
    theirs, results = run_otb(experiments, tmp_path, monkeypatch, names, trackers)
    ours = evaluate(PROTOCOLS["otb"], sequences, {t.name: results / t.name for t in trackers})
    assert 0 < ours.trackers["drifting"].overall.auc < ours.trackers["near"].overall.auc < 1
    assert_reports_agree(theirs, ours, names)


def test_the_toolkits_experiment_runs_our_trackers_as_we_do(
    experiments, tmp_path, monkeypatch, capsys
):
    found = {}
    for seed, name in enumerate(("David", "Deer")):
        found[name] = write_sequence(tmp_path / "data" / name, FRAMES + 1, seed)
    names = lay_out_otb(found.values(), tmp_path / "OTB", FRAMES)
    ours = {name: create_tracker(name, tiny_net()) for name in ("siamfc", "dsiamm")}
    trackers = [toolkit_tracker(tracker, name) for name, tracker in ours.items()]
    _, results = run_otb(experiments, tmp_path, monkeypatch, names, trackers)
    for name, tracker in ours.items():
        for sequence in found.values():
            recorded = np.loadtxt(results / name / f"{sequence.name}.txt", delimiter=",")
            tracker.init(sequence.frame(0), sequence.boxes[0])
            expected = [tracker.update(sequence.frame(n)) for n in range(1, FRAMES)]
            assert recorded[0].tolist() == sequence.boxes[0].tolist()
            assert np.abs(recorded[1:] - expected).max() <= ROUNDING


def test_a_layout_has_every_frame_once_and_nothing_to_download(tmp_path):
    data = tmp_path / "data"
    write_sequence(data / "David", 4)
    first = write_sequence(data / "Jogging", 3)
    (data / "Jogging" / "groundtruth_rect.2.txt").write_text("1,2,3,4\n" * 3)
    names = lay_out_otb(find_sequences([data]), tmp_path / "OTB")
    assert names == {"David": "David", "Jogging.1": "Jogging", "Jogging.2": "Jogging.2"}
    david = sorted((tmp_path / "OTB" / "David" / "img").iterdir())
    assert len(david) == 299 + 4 and david[299].resolve().name == "0001.png"
    jogging = tmp_path / "OTB" / "Jogging"
    assert [p.resolve() for p in sorted((jogging / "img").iterdir())] == list(first.paths)
    assert sorted(p.name for p in jogging.glob("*.txt")) == [
        "groundtruth_rect.1.txt",
        "groundtruth_rect.2.txt",
    ]
    assert (tmp_path / "OTB" / "Woman").is_dir()


def test_frames_are_copied_where_links_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("a required privilege is not held by the client")

    sequence = write_sequence(tmp_path / "Deer", 2)
    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    lay_out_otb([sequence], tmp_path / "OTB")
    frame = tmp_path / "OTB" / "Deer" / "img" / "0002.jpg"
    assert frame.read_bytes() == sequence.paths[1].read_bytes() and not frame.is_symlink()


def test_a_folder_with_files_is_not_laid_out_again(tmp_path):
    with pytest.raises(ValueError, match="expected an empty folder, found files"):
        lay_out_otb([write_sequence(tmp_path / "data" / "Deer", 2)], tmp_path)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ModuleNotFoundError("no", name="got10k"), r"the package got10k: pip install 'dsiam\[got"),
        (ModuleNotFoundError("no", name="wget"), "for want of the package wget"),
        (AttributeError("module 'numpy' has no attribute 'float'"), "does not go with .*'float'"),
        (ImportError("cannot import name 'x'"), "does not go with the installed libraries"),
    ],
)
def test_a_toolkit_that_cannot_be_imported_is_explained(monkeypatch, failure, words):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("got10k"):
            raise failure
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=words):
        import_toolkit()
