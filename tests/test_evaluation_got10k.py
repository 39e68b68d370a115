"""The scores compared with those of the got10k toolkit, and of a plain re-statement of it."""

import cv2
import numpy as np
import pytest

from analysing import tiny_net
from dsiam_net.evaluation.protocol import PROTOCOLS
from dsiam_net.evaluation.report import evaluate
from dsiam_net.evaluation.results import write_run
from dsiam_net.evaluation.sets import read_set
from dsiam_net.sequences import Sequence
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking import track_sequence
from evaluation_stubs import write_sequence

OTB, GOT10K = PROTOCOLS["otb"], PROTOCOLS["got10k"]
# Sequences of OTB-2013 with their frames and targets.
OTB_SEQUENCES = {"Deer": (71, 1), "Skiing": (81, 1), "Jogging": (307, 2)}
WIDTH, HEIGHT = 64, 48
BOUND = 1e-6


def toolkit(name):
    """A part of the got10k toolkit, or skip the test."""
    import matplotlib

    matplotlib.use("Agg")
    return pytest.importorskip(
        name,
        reason="the got10k toolkit is not installed (pip install got10k six)",
        exc_type=ImportError,
    )


def random_boxes(rng, frames):
    """Boxes of which some reach beyond the frame, in numbers with decimals."""
    corner = np.cumsum(rng.normal(0, 2, (frames, 2)), axis=0) + np.array([WIDTH / 2, HEIGHT / 2])
    corner = corner.clip(-4, (WIDTH - 4, HEIGHT - 4))
    return np.round(np.column_stack([corner, rng.uniform(6, 16, (frames, 2))]), 3)


def results_near(rng, truth):
    """Boxes at all distances from the truth, so that every overlap occurs; some equal it."""
    spread = rng.choice([0, 0.5, 3, 20], size=(len(truth), 1))
    results = truth + rng.normal(0, 1, truth.shape) * spread * [1, 1, 0.2, 0.2]
    results[:, 2:] = np.maximum(results[:, 2:], 1)
    return results


@pytest.fixture
def otb(tmp_path, rng):
    """Three sequences of OTB-2013 on disk, and results of two trackers in our files."""
    image = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    data = tmp_path / "data"
    for name, (frames, targets) in OTB_SEQUENCES.items():
        (data / name / "img").mkdir(parents=True)
        for number in range(1, frames + 1):
            (data / name / "img" / f"{number:04d}.jpg").write_bytes(image)
        for target in range(1, targets + 1):
            file = f"groundtruth_rect.{target}.txt" if targets > 1 else "groundtruth_rect.txt"
            np.savetxt(data / name / file, random_boxes(rng, frames), fmt="%.3f", delimiter=",")
    sequences, _ = read_set("otb2013", [data])
    for tracker in ("one", "two"):
        for sequence in sequences:
            times = rng.uniform(0.01, 0.1, len(sequence))
            boxes = results_near(rng, sequence.boxes)
            write_run(tmp_path / "results", tracker, sequence.name, boxes, times)
    return tmp_path, sequences


def our_scores(protocol, sequences, folder):
    return evaluate(protocol, sequences, {n: folder / n for n in ("one", "two")})


def test_otb_scores_equal_the_toolkits_on_our_files(otb, capsys):
    experiments = toolkit("got10k.experiments")
    folder, sequences = otb
    for name in experiments.ExperimentOTB.__init__.__globals__["OTB"]._OTB__otb13_seqs:
        (folder / "data" / name).mkdir(exist_ok=True)  # or the toolkit would download it
    experiment = experiments.ExperimentOTB(folder / "data", version=2013)
    experiment.result_dir = str(folder / "results" / "OTB")
    experiment.report_dir = str(folder / "reports")
    experiment.plot_curves = lambda names: None
    assert experiment.dataset.seq_names == ["Deer", "Jogging.1", "Jogging.2", "Skiing"]
    theirs = experiment.report(["one", "two"])
    ours = our_scores(OTB, sequences, folder / "results" / "OTB")
    for name in ("one", "two"):
        pairs = [(ours.trackers[name].overall, theirs[name]["overall"])]
        pairs += [(ours.trackers[name].scores[s], t) for s, t in theirs[name]["seq_wise"].items()]
        assert len(pairs) == 5
        for our, their in pairs:
            assert our.auc == pytest.approx(their["success_score"], abs=BOUND)
            assert our.precision == pytest.approx(their["precision_score"], abs=BOUND)
            assert our.fps == pytest.approx(their["speed_fps"], rel=BOUND)
            assert our.success == pytest.approx(np.array(their["success_curve"]), abs=BOUND)
            assert our.centre == pytest.approx(np.array(their["precision_curve"]), abs=BOUND)


def test_normalised_errors_equal_the_toolkits(rng):
    metrics = toolkit("got10k.utils.metrics")
    if not hasattr(metrics, "normalized_center_error"):
        pytest.skip("this release of the got10k toolkit has no normalised precision")
    from dsiam_net.metrics import normalized_errors

    truth = random_boxes(rng, 200)
    results = results_near(rng, truth)
    theirs = metrics.normalized_center_error(results, truth)
    assert normalized_errors(results, truth) == pytest.approx(theirs, abs=BOUND)


@pytest.fixture
def got10k(tmp_path, rng):
    """Two sequences in GOT-10k's layout, in some frames without target, and results of ours."""
    sequences = []
    for number, frames in (1, 40), (2, 90):
        name = f"GOT-10k_Val_{number:06d}"
        folder = tmp_path / "data" / "val" / name
        folder.mkdir(parents=True)
        truth = random_boxes(rng, frames)
        present = rng.random(frames) > 0.2
        present[0] = True
        image = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
        paths = [folder / f"{n:08d}.jpg" for n in range(1, frames + 1)]
        for path in paths:
            path.write_bytes(image)
        np.savetxt(folder / "groundtruth.txt", truth, fmt="%.4f", delimiter=",")
        np.savetxt(folder / "cover.label", np.where(present, 8, 0), fmt="%d")
        for label in ("absence", "cut_by_image"):
            np.savetxt(folder / f"{label}.label", np.zeros(frames), fmt="%d")
        (folder / "meta_info.ini").write_text(f"[METAINFO]\nresolution: ({WIDTH}, {HEIGHT})\n")
        known = np.where(present[:, None], truth, np.nan)
        sequences.append(Sequence(name, tuple(paths), known))
        for tracker in ("one", "two"):
            times = rng.uniform(0.01, 0.1, frames)
            write_run(tmp_path / "results", tracker, name, results_near(rng, truth), times)
    (tmp_path / "data" / "val" / "list.txt").write_text("\n".join(s.name for s in sequences))
    return tmp_path, sequences


def test_got10k_scores_equal_the_toolkits_on_our_files(got10k, capsys):
    experiments = toolkit("got10k.experiments")
    folder, sequences = got10k
    experiment = experiments.ExperimentGOT10k(folder / "data", subset="val")
    experiment.result_dir = str(folder / "results" / "GOT-10k")
    experiment.report_dir = str(folder / "reports")
    experiment.plot_curves = lambda files, names: None
    theirs = experiment.report(["one", "two"])
    ours = our_scores(GOT10K, sequences, folder / "results" / "GOT-10k")
    for name in ("one", "two"):
        overall = theirs[name]["overall"]
        curve = ours.trackers[name].overall.success
        assert curve == pytest.approx(np.array(overall["succ_curve"]), abs=BOUND)
        pairs = [(ours.trackers[name].overall, overall)]
        pairs += [(ours.trackers[name].scores[s], t) for s, t in theirs[name]["seq_wise"].items()]
        assert len(pairs) == 3
        for our, their in pairs:
            assert our.ao == pytest.approx(their["ao"], abs=BOUND)
            assert our.sr50 == pytest.approx(their["sr"], abs=BOUND)
            assert our.fps == pytest.approx(their["speed_fps"], rel=BOUND)


# The same without the toolkit: its formulas, written out for one frame


def plain_overlap(a, b, bound=None):
    if bound:
        a, b = ([*box] for box in (a, b))
        for box in (a, b):
            for low, side in ((0, 2), (1, 3)):
                box[low] = min(max(box[low], 0), bound[low])
                box[side] = min(max(box[side], 0), bound[low] - box[low])
    width = max(min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]), 0)
    union = a[2] * a[3] + b[2] * b[3] - width * height
    return min(width * height / (union + np.finfo(float).eps), 1)


def plain_error(a, b, normalise):
    centres = [[box[i] + (box[i + 2] - 1) / 2 for i in (0, 1)] for box in (a, b)]
    offsets = [first - second for first, second in zip(*centres)]
    if normalise:
        offsets = [offset / max(1, b[i + 2]) for i, offset in enumerate(offsets)]
    return (offsets[0] ** 2 + offsets[1] ** 2) ** 0.5


def share(values):
    values = list(values)
    return sum(values) / len(values)


def test_otb_scores_equal_a_plain_restatement(otb):
    folder, sequences = otb
    ours = our_scores(OTB, sequences, folder / "results" / "OTB").trackers["one"]
    all_success = []
    for sequence in sequences:
        file = folder / "results" / "OTB" / "one" / f"{sequence.name}.txt"
        boxes = np.loadtxt(file, delimiter=",").tolist()
        truth = sequence.boxes.tolist()
        boxes[0] = truth[0]
        pairs = list(zip(boxes, truth))
        overlap = [plain_overlap(a, b) for a, b in pairs]
        success = share(share(o > 0.05 * k for o in overlap) for k in range(21))
        precision = share(plain_error(a, b, False) <= 20 for a, b in pairs)
        normalized = [plain_error(a, b, True) for a, b in pairs]
        norm = share(share(e <= 0.01 * k for e in normalized) for k in range(51))
        scores = ours.scores[sequence.name]
        assert scores.auc == pytest.approx(success, abs=BOUND)
        assert scores.precision == pytest.approx(precision, abs=BOUND)
        assert scores.normalized_precision == pytest.approx(norm, abs=BOUND)
        assert scores.ao == pytest.approx(share(overlap), abs=BOUND)
        assert scores.sr75 == pytest.approx(share(o > 0.75 for o in overlap), abs=BOUND)
        all_success.append(success)
    assert ours.overall.auc == pytest.approx(share(all_success), abs=BOUND)


def test_got10k_scores_equal_a_plain_restatement(got10k):
    folder, sequences = got10k
    ours = our_scores(GOT10K, sequences, folder / "results" / "GOT-10k").trackers["two"]
    everything = []
    for sequence in sequences:
        file = folder / "results" / "GOT-10k" / "two" / sequence.name / f"{sequence.name}_001.txt"
        boxes = np.loadtxt(file, delimiter=",").tolist()
        overlap = [
            plain_overlap(a, b, (WIDTH, HEIGHT))
            for a, b in zip(boxes[1:], sequence.boxes.tolist()[1:])
            if not np.isnan(b[0])
        ]
        assert ours.scores[sequence.name].ao == pytest.approx(share(overlap), abs=BOUND)
        everything += overlap
    assert ours.overall.ao == pytest.approx(share(everything), abs=BOUND)
    assert ours.overall.sr50 == pytest.approx(share(o > 0.5 for o in everything), abs=BOUND)
    assert ours.overall.sr75 == pytest.approx(share(o > 0.75 for o in everything), abs=BOUND)


def test_the_toolkit_runs_our_trackers(tmp_path):
    trackers = toolkit("got10k.trackers")
    sequence = write_sequence(tmp_path / "A", 4)
    ours = create_tracker("dsiamm", tiny_net())

    class DSiamM(trackers.Tracker):  # as docs/tracker.md has it
        def __init__(self):
            super().__init__("DSiamM", is_deterministic=True)
            self.init, self.update = ours.init, ours.update

    boxes, times = DSiamM().track([str(path) for path in sequence.paths], sequence.boxes[0])
    expected = track_sequence(ours, sequence).boxes
    assert np.array_equal(boxes, expected) and len(times) == 4
