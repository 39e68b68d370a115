"""The tables of docs/robustness.md: every test that they name is there."""

import ast
import re

from golden import ROOT

TEXT = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows(heading):
    """The rows of the tables below a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line for line in lines if _TEST.search(line)], lines


def functions(file):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_of_the_tables_exists():
    named = set(_TEST.findall(TEXT))
    missing = [f"{file}::{name}" for file, name in named if name not in functions(file)]
    assert not missing


def test_every_row_is_a_test_and_there_are_at_least_forty_bad_inputs():
    for heading in ("Killed", "Load", "Starved", "Fed rubbish", "No way in"):
        tested, lines = rows(heading)
        heads = sum(line.startswith("| ---") for line in lines)
        assert len(lines) == len(tested) + 2 * heads, heading
    tested, _ = rows("Fed rubbish")
    assert len(tested) >= 40
    # A row stands for a test of its own.
    assert len({_TEST.search(row)[0] for row in tested}) == len(tested)
