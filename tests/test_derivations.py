"""docs/derivations.md names functions and tests: they must exist, and no equation be left out."""

import re

import pytest

from golden import ROOT

PAGE = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")


def rows(section):
    """Rows of the table of a section: number, function's (file, name), test's (file, name)."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    for line in text.splitlines():
        number = re.match(r"\| (\d+) \|", line)
        if number:
            function = re.search(r"`((?:layers|tests)/\w+\.py)` `(\w+)`", line).groups()
            test = re.search(r"`(tests/test_\w+\.py)::(\w+)` \|$", line).groups()
            yield int(number[1]), function, test


ROWS = [*rows("The main text"), *rows("The supplement")]


def test_every_equation_has_a_row():
    assert [number for number, *_ in rows("The main text")] == list(range(1, 8))
    assert [number for number, *_ in rows("The supplement")] == list(range(1, 29))


@pytest.mark.parametrize("file, name", sorted({place for row in ROWS for place in row[1:]}))
def test_what_the_page_names_exists(file, name):
    source = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE)
