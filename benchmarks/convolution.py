"""Which implementation of `ConvDictionary` is fastest: ``python -m benchmarks.convolution``.

Best of five, one thread, float32, milliseconds of a synthesis + a correlation; * is what
`calepin.operators.conv.choose_implementation` takes.
"""

import time
from collections.abc import Callable

import torch

from calepin.operators import ConvDictionary

# atoms, signal, stride, number of signals
CASES = (
    ((64, 1, 9, 9), (149, 149), 4, 1),
    ((169, 1, 11, 11), (270, 270), 7, 1),
    ((32, 1, 8, 8), (128, 128), 2, 1),
    ((32, 1, 8, 8), (256, 256), 1, 1),
    ((32, 1, 5, 5), (128, 128), 1, 1),
    ((32, 1, 3, 3), (128, 128), 1, 1),
    ((32, 3, 16, 16), (128, 128), 1, 1),
    ((32, 3, 6, 6), (128, 128), 1, 1),
    ((10, 1, 100), (10000,), 1, 4),
    ((3, 1, 50), (500,), 1, 256),
    ((3, 1, 4), (500,), 1, 256),
    ((16, 32, 10), (2000,), 1, 8),
    ((16, 1, 32), (8000,), 8, 4),
    ((8, 1, 5, 5, 5), (32, 32, 32), 1, 1),
    ((8, 1, 3, 3, 3), (32, 32, 32), 1, 1),
    ((8, 1, 5, 5, 5), (32, 32, 32), 2, 1),
)


def milliseconds(function: Callable[[], object]) -> float:
    """Return the best CPU time of five calls."""
    times = []
    function()
    for _ in range(5):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


@torch.no_grad()
def main() -> None:
    """Print one line for each size."""
    torch.set_num_threads(1)
    for shape, signal, stride, n in CASES:
        cells = []
        for how in ("direct", "polyphase", "fft"):
            if how == ("fft" if stride > 1 else "polyphase"):
                continue
            operator = ConvDictionary(
                torch.randn(shape), signal_shape=signal, stride=stride, implementation=how
            )
            z, y = torch.randn(n, *operator.in_shape), torch.randn(n, *operator.out_shape)
            there = milliseconds(lambda operator=operator, z=z: operator(z))
            back = milliseconds(lambda operator=operator, y=y: operator.adjoint(y))
            taken = ConvDictionary(operator.atoms, signal_shape=signal, stride=stride).implementation
            cells.append(f"{how}{'*' * (how == taken)} {there:.1f} + {back:.1f}")
        print(f"{n:3} x {signal!s:14} atoms {shape!s:18} stride {stride}:  " + ",  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
