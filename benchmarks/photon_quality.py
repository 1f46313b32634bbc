"""PSNR of the shipped networks for photons on whole test sets: ``python -m benchmarks.photon_quality``.

Counts and PSNR are those of `calepin_papers.dcea.photons`: one draw of photons an image.
"""

import argparse

import torch

from calepin.networks import pretrained
from calepin_papers.dcea.photons import PAPER, SETS, clean_images, psnr_of_each


def main() -> None:
    """Print one line for each set, kind of weights and peak."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photon_quality", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--kinds", nargs="+", choices=["tied", "untied"], default=["tied", "untied"])
    parser.add_argument("--peaks", nargs="+", type=int, choices=[1, 2, 4], default=[1, 2, 4])
    parser.add_argument("--first", type=int, metavar="N", help="only the first N images of a set")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.sets:
        clean = clean_images(name, given.first)
        for kind in given.kinds:
            for peak in given.peaks:
                reached = psnr_of_each(pretrained(f"dcea-poisson-{kind}-peak{peak}"), clean, peak).mean()
                table = PAPER[name, kind][peak]
                print(f"{name} {kind:6} peak {peak}: {reached:.2f} dB   the paper's {table:.2f}", flush=True)


if __name__ == "__main__":
    main()
