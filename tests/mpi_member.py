"""One process of a run under mpiexec: ``python mpi_member.py FOLDER COMMAND ARGUMENTS...``.

It notes its number in FOLDER, so that a test can end it, and runs the command: ``train`` and
``evaluate`` as they are, ``pretrain`` on a small network and generated pairs, or ``operations``,
which tries everything that a communicator does.
"""

import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from dagnet.communicator import broadcast_tree
from dagnet.fused_sums import FusedSums
from dagnet.mpi import launched_rank
from dsiam_net.cli import join_workers, run_command


def pretrain(argv):
    from dsiam_net import pretrain
    from dsiam_net.branches import siamfc_branch
    from pair_sources import Blobs
    from tiny import CHANNELS

    pretrain.siamfc_branch = lambda: siamfc_branch(CHANNELS)
    pretrain.make_source = lambda options: Blobs(options.instance_size, jitter=4)
    pretrain.write_contact_sheet = lambda *_, **__: None
    return pretrain.main


def train(argv):
    from dsiam_net import train

    return train.main


def evaluate(argv):
    from dsiam_net import evaluate

    return evaluate.main


def operations(argv):
    return lambda _: _try_all(join_workers())


def _try_all(world):
    rank, size = world.rank, world.size
    texts = world.exchange({"rank": rank, "text": "ä" * rank, "nan": float("nan")})
    assert [t["rank"] for t in texts] == list(range(size))
    assert [t["text"] for t in texts] == ["ä" * r for r in range(size)]
    for count in (0, 1, 100_003):
        content = bytes(range(256)) * count if world.is_first else b""
        assert world.broadcast_bytes(content) == bytes(range(256)) * count
    for array in (np.array(rank, np.float32), np.full((2, 3), rank), np.full((0, 2), 1.0)):
        taken = world.broadcast(array)
        assert taken.shape == array.shape and taken.dtype == array.dtype and not taken.any()
    column = np.arange(12.0).reshape(3, 4)[:, 1] + rank
    assert broadcast_tree({"a": [column]}, world)["a"][0].tolist() == [1, 5, 9]
    for dtype in (np.float32, np.float64):
        arrays = [world.empty(count, dtype, "cpu") for count in (1, 1000, 300_000)]
        for array in arrays:
            array[:] = rank + 1
        pending = [world.start_sum(array) for array in arrays]
        pending[0].test()
        for sum_, array in zip(pending, arrays):
            sum_.wait()
            assert (array == size * (size + 1) / 2).all()
    _try_sums(world)
    print(f"all well with {size}")


def _try_sums(world):
    from dagnet import DagNN
    from layers import Conv

    net = DagNN()
    for i, (before, after) in enumerate(pairwise((3, 40, 50, 6)), start=1):
        conv = Conv(size=(after, before, 3, 3), pad=1)
        net.add_layer(f"conv{i}", conv, f"x{i}", f"x{i + 1}", [f"f{i}", f"b{i}"])
    net.init_params(0, np.float64)
    every = []
    for rank in range(world.size):
        rng = np.random.default_rng(rank)
        every.append({p.name: rng.standard_normal(p.value.shape) for p in net.params})
    server = FusedSums(net, world, 20_000)
    assert len(server.buckets) > 2
    for step in range(3):
        order = np.random.default_rng([world.rank, step]).permutation([p.name for p in net.params])
        for name in order:
            server.push(name, every[world.rank][name])
        server.sync()
        for name in every[0]:
            total = sum(ders[name] for ders in every)
            np.testing.assert_allclose(server.pull(name), total, rtol=1e-12, atol=1e-12)


if __name__ == "__main__":
    folder, command, *arguments = sys.argv[1:]
    Path(folder, f"pid-{launched_rank()}").write_text(str(os.getpid()))
    main = globals()[command](arguments)
    run_command(lambda _: main(arguments))
