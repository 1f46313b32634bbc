"""
Magnetic resonance imaging from a quarter of k-space
====================================================

A scanner measures the Fourier transform of an image, "k-space", with several coils. A scan is faster if
samples are left out. What do zeros in their place cost, and what does an untrained network recover?

The scan is simulated: the phantom of scikit-image, four coils with smooth sensitivities, and noise.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.data import shepp_logan_phantom

from calepin.metrics import psnr
from calepin.operators import centred_fft
from calepin.reconstruction import reconstruct_scan, scan_kspace

SIZE = 80

# %%
# The phantom, reduced to 80 x 80 pixels. Each coil sees the pixels near it best.
phantom = shepp_logan_phantom().reshape(SIZE, 5, SIZE, 5).mean((1, 3))
rows, columns = np.mgrid[-1 : 1 : 1j * SIZE, -1 : 1 : 1j * SIZE]
coils = np.stack(
    [
        np.exp(-0.5 * ((rows - r) ** 2 + (columns - c) ** 2)) * np.exp(1j * (r * columns + c * rows))
        for r, c in ((-1, -1), (-1, 1), (1, -1), (1, 1))
    ]
)
kspace = centred_fft(torch.from_numpy(phantom * coils)).numpy()
rng = np.random.default_rng(0)
kspace += 0.005 * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))

# %%
# ``scan_kspace`` leaves samples out: single points, denser near the centre, or whole columns, as a scanner
# would in two dimensions. One network generates the images of all coils; it needs neither sensitivities nor
# training.
found = {}
for pattern in ("points", "columns"):
    scan = scan_kspace(kspace.astype(np.complex64), acceleration=4, pattern=pattern)
    found[pattern] = (scan, reconstruct_scan(scan, max_iter=200, n_starts=1, random_state=0))

# %%
# The true image is that of all samples: the root of the sum of squares over the coils.
figure, axes = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
quality = {}
for line, (pattern, (scan, result)) in zip(axes, found.items(), strict=True):
    quality[pattern] = [psnr(pixels, scan.truth) for pixels in (result.adjoint, result.image)]
    acquired = scan.operator.acquired.numpy()
    for place, pixels, title in zip(
        line,
        (acquired, scan.truth, result.adjoint, result.image),
        (
            f"{pattern}: {acquired.mean():.0%} of k-space",
            "all samples",
            f"zeros: {quality[pattern][0]:.1f} dB",
            f"network: {quality[pattern][1]:.1f} dB",
        ),
        strict=True,
    ):
        place.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        place.set_title(title, fontsize=10)
        place.set(xticks=[], yticks=[])
plt.show()
print({pattern: np.round(values, 1).tolist() for pattern, values in quality.items()})

# %%
# What was learned
# ----------------
#
# - Zeros for the missing samples cost noise-like errors if points are missing, and ghosts if columns are.
# - The network removes most of the first kind. Missing columns are harder: the errors look like the image
#   itself.
# - With real k-space, begin with ``read_kspace``; the phantom's flat areas are easier than anatomy.
assert quality["points"][1] > quality["points"][0] + 2
