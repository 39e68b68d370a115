"""Files written here, loaded by GNU Octave: structure, classes, sizes and values are those."""

import hashlib
import shutil
import subprocess

import numpy as np
import pytest

from dsiam_net.branches import siamfc_branch
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from golden import GOLDENS
from mat_networks import small_network, training_file
from mat_writers import write_mat5
from matlab_import import load_training, read_mat, save_network, save_simplenn
from tiny import CHANNELS

OCTAVE = shutil.which("octave-cli")

pytestmark = pytest.mark.skipif(
    OCTAVE is None, reason="GNU Octave was not found (Debian's package octave-cli)"
)

# Prints a line for each value: where it is, its class and size, and the MD5 sum of its bytes.
WALK = """
function walk(where, v)
  if isstruct(v)
    printf("%s struct %s %s\\n", where, mat2str(size(v)), strjoin(fieldnames(v)', ","));
    for i = 1:numel(v)
      for name = fieldnames(v)'
        walk(sprintf("%s(%d).%s", where, i, name{1}), v(i).(name{1}));
      end
    end
  elseif iscell(v)
    printf("%s cell %s\\n", where, mat2str(size(v)));
    for i = 1:numel(v)
      walk(sprintf("%s{%d}", where, i), v{i});
    end
  elseif ischar(v)
    printf("%s char %s\\n", where, v);
  else
    bytes = v(:)';
    if islogical(v)
      bytes = uint8(bytes);
    end
    sum = hash("md5", char(typecast(bytes, "uint8")));
    printf("%s %s %s %s\\n", where, class(v), mat2str(size(v)), sum);
  end
end
s = load("FILE");
for name = sort(fieldnames(s))'
  walk(name{1}, s.(name{1}));
end
"""


def octave_lines(path):
    """What Octave finds in a file."""
    run = subprocess.run(
        [OCTAVE, "--no-init-file", "--quiet", "--eval", WALK.replace("FILE", str(path))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout, run.stderr
    return run.stdout.splitlines()


CLASSES = {"float64": "double", "float32": "single", "bool": "logical"}


def struct(where, elements, fields, shape):
    yield f"{where} struct {size(shape)} {','.join(fields)}"
    for i, element in enumerate(elements, start=1):
        for name in fields:
            yield from lines_of(f"{where}({i}).{name}", element[name])


def size(shape):
    return f"[{' '.join(map(str, shape))}]"


def lines_of(where, value):
    """What Octave must find, of a value in plain MATLAB form."""
    if isinstance(value, dict):
        yield from struct(where, [value], list(value), (1, 1))
    elif hasattr(value, "fields"):
        yield from struct(where, value, value.fields, value.shape)
    elif isinstance(value, list):
        yield f"{where} cell {size(value.shape)}"
        for i, v in enumerate(value, start=1):
            yield from lines_of(f"{where}{{{i}}}", v)
    elif isinstance(value, str):
        yield f"{where} char {value}"
    else:
        digest = hashlib.md5(value.ravel(order="F").tobytes()).hexdigest()
        name = CLASSES.get(value.dtype.name, value.dtype.name)
        yield f"{where} {name} {size(value.shape)} {digest}"


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "save"),
    (
        ("net_siamfc_small_v7", save_network),
        ("simplenn_old_v7", save_simplenn),
        ("simplenn_new_v7", save_simplenn),
        ("track_vggmini_net", save_simplenn),
    ),
)
def test_octave_finds_what_it_finds_in_the_original_file(name, save, tmp_path):
    original = GOLDENS / f"{name}.mat"
    if not original.is_file():
        pytest.skip("golden files not found")
    net, state, stats = load_training(original)
    save(net, tmp_path / "out.mat", state=state, stats=stats)
    found = octave_lines(tmp_path / "out.mat")
    assert len(found) > 50 and found == octave_lines(original)


@pytest.mark.parametrize("version", ("6", "7"))
def test_octave_finds_layers_and_values_of_a_network_made_here(version, tmp_path):
    net = build_unrolled(siamfc_branch(CHANNELS), UnrolledSettings(frames=1))
    net.init_params(0)
    out = tmp_path / "net.mat"
    save_network(net, out, version)
    found = octave_lines(out)
    lines = dict(line.split(" ", 1) for line in found)
    assert lines["net"] == "struct [1 1] vars,params,layers,meta"
    assert lines["net(1).layers"] == "struct [1 94] name,type,inputs,outputs,params,block"
    for i, record in enumerate(net.layers, start=1):
        where = f"net(1).layers({i})"
        assert lines[f"{where}.name"] == f"char {record.name}"
        for field in ("inputs", "outputs", "params"):
            names = getattr(record, field)
            count = f"[1 {len(names)}]" if names else "[0 0]"
            assert lines[f"{where}.{field}"] == f"cell {count}"
            for k, name in enumerate(names, start=1):
                assert lines[f"{where}.{field}{{{k}}}"] == f"char {name}"
    for i, parameter in enumerate(net.params, start=1):
        value = parameter.value
        matlab = value.transpose(2, 3, 1, 0) if value.ndim == 4 else np.atleast_2d(value)
        shape = matlab.shape if value.ndim > 1 else (value.size, 1)
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        digest = hashlib.md5(matlab.ravel(order="F").tobytes()).hexdigest()
        name = CLASSES[value.dtype.name]
        assert lines[f"net(1).params({i}).value"] == f"{name} {size(shape)} {digest}"
        assert lines[f"net(1).params({i}).name"] == f"char {parameter.name}"


def test_octave_and_the_readers_here_agree_on_a_training_file(tmp_path, rng):
    write_mat5(tmp_path / "net.mat", training_file(small_network(rng)))
    net, state, stats = load_training(tmp_path / "net.mat")
    out = tmp_path / "out.mat"
    save_network(net, out, state=state, stats=stats)
    expected = [line for name, v in sorted(read_mat(out).items()) for line in lines_of(name, v)]
    assert octave_lines(out) == expected
    assert "net(1).params(4).value single [1 4]" in "\n".join(expected)
