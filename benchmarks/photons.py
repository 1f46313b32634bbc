"""The released untied network on whole images: ``python -m benchmarks.photons``.

CPU seconds on one thread, float32, peak 4, all 49 shifts, for calepin and for the paper's recurrence as
strided convolutions of the library, one shift after the other. The last columns are the largest
difference of the two log-rates and the peak memory of the process so far. The authors' own code needs
about 24 s for 256 x 256.
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.datasets import data_path
from calepin.networks import UnfoldedAutoencoder

SIZES = ((256, 256), (481, 321))


def recurrence(net: UnfoldedAutoencoder, y: Tensor) -> Tensor:
    """Return the log-rate as the paper writes it: one strided convolution each way a layer."""
    H, We, Wd, b, s = net.atoms, net.encoder_atoms, net.decoder_atoms, net.alpha, net.stride
    bound = net.residual_bound or 1.0
    rows, columns = ((H.shape[-1] - size) % s for size in y.shape[2:])
    total = torch.zeros_like(y)
    for i, j in net.all_shifts():
        padded = F.pad(y, (s - j, s + columns + j, s - i, s + rows + i), mode="reflect")
        x = torch.relu(F.conv2d(F.elu(padded - 1, bound), We, stride=s) - b)
        for _ in range(net.n_unfold - 1):
            residual = F.elu(padded - F.conv_transpose2d(x, H, stride=s).exp(), bound)
            x = torch.relu(x + F.conv2d(residual, We, stride=s) - b)
        log_rate = F.conv_transpose2d(x, Wd, stride=s)
        total += log_rate[:, :, s - i :, s - j :][:, :, : y.shape[2], : y.shape[3]]
    return total / s**2


def timed(function: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return a result and its CPU seconds."""
    begun = time.process_time()
    result = function()
    return result, time.process_time() - begun


def peak_memory() -> float:
    """Return the largest resident memory of this process so far in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@torch.no_grad()
def main() -> None:
    """Print one line for each size."""
    torch.set_num_threads(1)
    net = UnfoldedAutoencoder.load_reference(data_path("dcea_reference_weights/dcea_untied_peak4.npz"))
    for size in SIZES:
        rate = np.abs(np.add.outer(np.sin(np.arange(size[0]) / 20), np.cos(np.arange(size[1]) / 15))) * 2
        y = torch.from_numpy(np.random.default_rng(0).poisson(rate))[None, None].to(net.atoms)
        net(y[:, :, :32, :32])
        ours, seconds = timed(lambda y=y: net(y))
        memory = peak_memory()
        theirs, strided = timed(lambda y=y: recurrence(net, y))
        apart = float((ours - theirs).abs().max())
        beside = f"strided convolutions {strided:6.2f} s"
        print(f"{size[0]} x {size[1]}: {seconds:6.2f} s   {beside}   {apart:.1e}   {memory:.0f} MB")


if __name__ == "__main__":
    main()
