"""The tutorial "write a layer" is a program, and prints what it says it prints."""

import re

from dagnet import layer as engine
from golden import ROOT

PAGE = ROOT / "docs" / "write_a_layer.md"
EXPECTED = re.compile(r"print\(.*# -> (.*)$", re.MULTILINE)


def blocks():
    """The page's blocks of Python, each at its own line, for errors that name it."""
    text = PAGE.read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text[: match.start(1)].count("\n") + match[1]


def test_every_block_runs_and_prints_what_the_page_says(capsys, monkeypatch):
    # What it registers is taken away again: other tests compare the list of types.
    monkeypatch.setattr(engine, "_REGISTRY", dict(engine._REGISTRY))
    names = {"__name__": "write_a_layer"}
    found = list(blocks())
    assert len(found) == 10
    for code in found:
        exec(compile(code, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [line for code in found for line in EXPECTED.findall(code)]
    assert len(printed) == 9


def test_every_file_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:layers|matlab_import|tests)/[\w/]+\.py)`", text))
    wished = {"layers/prelu.py", "tests/test_prelu.py"}  # those of the reader's own layer
    assert paths > wished and all((ROOT / path).is_file() for path in paths - wished)
