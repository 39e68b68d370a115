"""How busy a training run keeps the card: what is read of it, and how it is told."""

import os
import time
from pathlib import Path

import pytest

import comparing
import contender
import train_job
from busy import BusyCard, busy_share


def test_the_share_is_of_the_time_between_the_first_kernel_and_the_last():
    assert busy_share("0\n0\n80\n100\n0\n60\n0\n") == pytest.approx(0.6)
    assert busy_share("0\n0\n") is None
    assert busy_share("[N/A]\n") is None
    assert busy_share("") is None


def test_the_card_is_watched_while_a_block_runs(tmp_path, monkeypatch):
    told = tmp_path / "arguments"
    script = tmp_path / "nvidia-smi"
    script.write_text(
        f'#!/bin/sh\necho "$@" > {told}\nwhile true; do echo 90; echo 100; sleep 0.01; done\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    with BusyCard() as card:
        deadline = time.monotonic() + 20
        while not told.exists() or not told.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
    assert 0.9 <= card.share <= 1
    assert "--id=1" in told.read_text().split()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with BusyCard() as card:
        pass
    assert card.share is None


def test_both_programs_are_told_the_device():
    files = train_job.Files(*map(Path, "abcd"))
    sides = train_job.commands(files, 10, 1, ["--device", "gpu", "--tf32"])
    for command in (side(Path("folder")) for side in sides.values()):
        assert command[command.index("--device") + 1] == "gpu" and "--tf32" in command


def test_how_busy_the_card_was_is_in_the_table(capsys):
    seconds = {side: [contender.Seconds(2.0, 1.0)] for side in (comparing.OURS, comparing.NCHW)}
    train_job.print_table(seconds, {comparing.OURS: [0.95], comparing.NCHW: [None]})
    rows = capsys.readouterr().out.strip().splitlines()
    assert rows[2].endswith("|  |  | 0.95 |") and rows[3].endswith("| 0.55 |  |")
    assert len({row.count("|") for row in rows}) == 1
