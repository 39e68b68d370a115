"""Tests of dsiam_net.evaluation.runner: runs in processes, resume, kill, failures."""

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from dsiam_net.evaluation.results import boxes_file, read_run
from dsiam_net.evaluation.runner import check_settings, is_finished, record, run_trackers
from evaluation_stubs import Drifting, DriftingTracker, Environment, drifted, write_sequence
from golden import ROOT

FRAMES = 6
MARK = 7


@pytest.fixture
def sequences(tmp_path):
    return [write_sequence(tmp_path / "data" / n, FRAMES, i) for i, n in enumerate("ABC")]


def mark(sequence, index):
    """Make the first pixel of a frame one that stub trackers fail on."""
    image = cv2.imread(str(sequence.paths[index]))
    image[0, 0] = MARK
    cv2.imwrite(str(sequence.paths[index]), image)


def result_files(root):
    """Boxes by name of file: what a run must give again (times and dates are never the same)."""
    return {
        p.relative_to(root).as_posix(): p.read_text()
        for p in root.rglob("*.txt")
        if not p.name.endswith("_time.txt")
    }


def test_a_sequence_is_tracked_from_its_first_box(sequences):
    boxes, times = record(DriftingTracker(), sequences[0])
    assert boxes.tolist() == drifted(sequences[0].boxes[0], FRAMES).tolist()
    assert times.shape == (FRAMES,) and (times > 0).all()


def test_a_sequence_without_a_first_box_is_refused(sequences):
    sequences[0].boxes[0] = np.nan
    with pytest.raises(ValueError, match="A: the first frame has no box"):
        record(DriftingTracker(), sequences[0])


def test_processes_side_by_side_give_what_one_after_the_other_gives(sequences, tmp_path):
    reports = []
    for jobs in (1, 3):
        root = tmp_path / str(jobs)
        assert run_trackers([Drifting()], sequences, root, jobs, lambda *r: reports.append(r)) == []
        for sequence in sequences:
            boxes = read_run(root / "OTB" / "drifting", sequence.name).boxes[0]
            assert boxes.tolist() == drifted(sequence.boxes[0], FRAMES).tolist()
    assert result_files(tmp_path / "1") == result_files(tmp_path / "3")
    assert [(done, total) for _, done, total in reports] == [(1, 3), (2, 3), (3, 3)] * 2
    assert sorted(job.sequence for job, *_ in reports[3:]) == ["A", "B", "C"]


def test_a_process_has_one_blas_thread_and_ours_keeps_its_own(sequences, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    run_trackers([Environment()], sequences[:1], tmp_path / "r", 1)
    assert read_run(tmp_path / "r" / "OTB" / "environment", "A").boxes[0, 1:, 3].tolist() == [1] * 5
    assert os.environ["OPENBLAS_NUM_THREADS"] == "5" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("end", "words"),
    [(False, "RuntimeError: the target has gone"), (True, "ended early, with status 3")],
)
def test_a_sequence_that_fails_is_reported_and_the_rest_goes_on(sequences, tmp_path, end, words):
    mark(sequences[1], 3)
    source, root = Drifting(marked=MARK, end=end), tmp_path / "results"
    failed = run_trackers([source], sequences, root, 2)
    assert [(job.tracker, job.sequence) for job in failed] == [("drifting", "B")]
    assert words in failed[0].error
    assert [is_finished(root, "drifting", s) for s in sequences] == [True, False, True]


def test_a_frame_that_cannot_be_read_is_named(sequences, tmp_path):
    sequences[0].paths[2].write_bytes(b"no image")
    failed = run_trackers([Drifting()], sequences[:1], tmp_path / "results", 1)
    assert "0003.png" in failed[0].error


def test_what_is_finished_is_not_tracked_again(sequences, tmp_path):
    root, source = tmp_path / "results", Drifting()
    run_trackers([source], sequences[:1], root, 1)
    path = boxes_file(root, "drifting", "A")
    path.write_text(path.read_text().replace("1", "2"))
    kept, reports = path.read_text(), []
    run_trackers([source], sequences[:2], root, 1, lambda *r: reports.append(r))
    assert path.read_text() == kept
    assert [job.sequence for job, *_ in reports] == ["B"]


KILLED = """
import sys
from pathlib import Path
from dsiam_net.evaluation.runner import run_trackers
from dsiam_net.sequences import find_sequences
from evaluation_stubs import Drifting
if __name__ == "__main__":
    data, root = map(Path, sys.argv[1:])
    run_trackers([Drifting(wait=0.2)], find_sequences(data), root, 2)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_files(sequences, tmp_path):
    root, script = tmp_path / "results", tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "data"), str(root)], env=environment
    )
    limit = time.monotonic() + 60
    while not (list(root.glob("OTB/drifting/*.txt"))) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = result_files(root)
    assert finished
    time.sleep(0.5)  # the killed run's processes end with it and write nothing more
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.txt")}
    time.sleep(1.0)
    assert before == {p: p.stat().st_mtime_ns for p in root.rglob("*.txt")}
    left = [s for s in sequences if not is_finished(root, "drifting", s)]
    assert left
    assert run_trackers([Drifting(wait=0.2)], sequences, root, 2) == []
    whole = tmp_path / "whole"
    run_trackers([Drifting()], sequences, whole, 2)
    assert result_files(root) == result_files(whole)


def test_results_of_other_settings_are_refused(tmp_path):
    class Other(Drifting):
        def describe(self):
            return {"tracker": self.name, "size": (1, 3)}

    check_settings(tmp_path, Drifting())
    check_settings(tmp_path, Drifting())
    with pytest.raises(ValueError, match=r"drifting\.json.*made with other size"):
        check_settings(tmp_path, Other())


def test_results_of_another_length_fail(sequences, tmp_path):
    path = boxes_file(tmp_path, "drifting", "A")
    path.parent.mkdir(parents=True)
    path.write_text("1,2,3,4\n")
    (job,) = run_trackers([Drifting()], sequences[:1], tmp_path, 1)
    assert "A.txt holds 1 boxes and the sequence has 6 frames" in job.error


def test_bad_arguments_are_refused(sequences, tmp_path):
    with pytest.raises(ValueError, match="at least 1, received 0"):
        run_trackers([Drifting()], sequences, tmp_path, 0)
    with pytest.raises(ValueError, match="found A more than once"):
        run_trackers([Drifting()], [sequences[0], *sequences], tmp_path, 1)
