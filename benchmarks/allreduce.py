"""What it costs to add up derivatives over processes, and how much of it backward hides.

``mpiexec -n 2 python benchmarks/allreduce.py [--rounds 50] [--steps 10]``

Messages are those of training: all parameters of the unrolled network, those of SiamFC's branch,
in one buffer and one by one. Then a step of pre-training: how long it takes with the sums and
without, and how long the end of backward waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from dagnet import DagNN
from dagnet.communicator import Communicator
from dagnet.fused_sums import FusedSums
from dsiam_net.branches import siamfc_branch
from dsiam_net.cli import join_workers, make_parser, run_command
from dsiam_net.pretraining import add_pair_losses
from dsiam_net.siamfc import make_siamfc
from dsiam_net.text_table import columns
from dsiam_net.unrolled import build_unrolled
from machine import describe
from reporting import print_machine, require_positive

MIB = 2**20


def together(world: Communicator) -> None:
    """Return when all processes are here."""
    world.exchange(None)


def measure(world: Communicator, run: Callable[[], None], rounds: int) -> list[float]:
    """Least, median and upper quartile of the seconds that ``run`` takes until the last process is
    done; a first round is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        together(world)
        start = time.perf_counter()
        run()
        seconds.append(max(world.exchange(time.perf_counter() - start)))
    return np.percentile(seconds[1:], [0, 50, 75]).tolist()


def sums(world: Communicator, counts: Sequence[int]) -> Callable[[], None]:
    """A function that sums arrays of these many float32 numbers over the processes."""
    arrays = [np.zeros(count, np.float32) for count in counts]

    def run() -> None:
        for pending in [world.start_sum(array) for array in arrays]:
            pending.wait()

    return run


def messages(world: Communicator, rounds: int) -> list[list[str]]:
    """A row for each network: one buffer, buckets, and each parameter by itself."""
    networks = {"unrolled network": build_unrolled(siamfc_branch()), "branch": siamfc_branch()}
    rows = [["of", "parameters", "MiB", "messages", "least ms", "median", "quartile", "MiB/s"]]
    for name, net in networks.items():
        net.init_params(0)
        sizes = [p.value.size for p in net.params if p.value is not None]
        buckets = [
            sum(net.get_param(n).value.size + 1 for n in bucket)
            for bucket in FusedSums(net, world).buckets
        ]
        for counts in ([sum(sizes)], buckets, sizes):
            seconds = measure(world, sums(world, counts), rounds)
            mib = 4 * sum(counts) / MIB
            rows.append(
                [
                    *(name, str(len(sizes)), f"{mib:.2f}", str(len(counts))),
                    *(f"{1e3 * value:.2f}" for value in seconds),
                    f"{mib / seconds[0]:.0f}",
                ]
            )
    return rows


def pair_network(batch: int) -> tuple[DagNN, dict[str, np.ndarray]]:
    """SiamFC with its losses, and a batch of noise."""
    branch = siamfc_branch()
    branch.init_params(0)
    net = make_siamfc(branch)
    add_pair_losses(net, 239)
    rng = np.random.default_rng(0)
    side = net.meta["pairs"]["map_size"]
    inputs = {
        "exemplar": rng.uniform(0, 255, (batch, 3, 127, 127)),
        "instance": rng.uniform(0, 255, (batch, 3, 239, 239)),
        "eltwise_label": rng.choice([-1.0, 1.0], (batch, 1, *side)),
        "target": np.full((batch, 2), side[0] // 2),
    }
    return net, {name: value.astype(np.float32) for name, value in inputs.items()}


def steps(world: Communicator, batch: int, rounds: int) -> list[list[str]]:
    """Forward and backward of pre-training, without sums, with them afterwards, and meanwhile."""
    net, inputs = pair_network(batch)
    server = FusedSums(net, world)
    waited: list[float] = []

    def evaluate() -> None:
        net.eval(inputs, {"objective": 1})

    def finish() -> None:
        start = time.perf_counter()
        server.sync()
        waited.append(time.perf_counter() - start)

    def afterwards() -> None:
        evaluate()
        for parameter in net.params:
            server.push(parameter.name, parameter.der)
        finish()

    def meanwhile() -> None:
        net.set_parameter_server(server)
        evaluate()
        finish()
        net.clear_parameter_server()

    rows = [["step", "least ms", "median", "quartile", "median wait for sums"]]
    for name, run in (
        ("without sums", evaluate),
        ("sums after backward", afterwards),
        ("sums during backward", meanwhile),
    ):
        waited.clear()
        seconds = measure(world, run, rounds)
        wait = f"{1e3 * np.median(waited[1:]):.2f}" if waited else ""
        rows.append([name, *(f"{1e3 * value:.0f}" for value in seconds), wait])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = make_parser("benchmarks.allreduce", "What summing derivatives over processes costs.")
    parser.add_argument("--rounds", type=int, default=50, help="of sums, measured")
    parser.add_argument("--steps", type=int, default=10, help="of pre-training, measured")
    parser.add_argument("--batch-size", type=int, default=2, help="pairs a step, of each process")
    options = parser.parse_args(argv)
    require_positive(parser, options, "rounds", "steps", "batch_size")
    world = join_workers()
    if world.size == 1:
        raise ValueError("there is but one process: start with mpiexec -n 2 python ...")
    print_machine(describe(1))
    print(f"processes {world.size}, each with its own BLAS threads (OPENBLAS_NUM_THREADS)\n")
    print(columns(messages(world, options.rounds)), end="\n\n")
    print(columns(steps(world, options.batch_size, options.steps)))


if __name__ == "__main__":
    run_command(main)
