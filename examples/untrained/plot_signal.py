"""
A noisy signal with gaps, filled by an untrained network
========================================================

Half of the samples of an electrocardiogram are lost, the others are noisy. Can a network without any
training fill the gaps, and is it better than a smoothing spline?

The recording comes with PyWavelets: 1024 samples at 360 samples a second.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pywt
import torch
from scipy.interpolate import make_smoothing_spline
from sklearn.exceptions import ConvergenceWarning

from calepin.networks import DeepDecoder
from calepin.operators import Mask
from calepin.reconstruction import fit_untrained

BLUE, ORANGE = "#0072B2", "#D55E00"

# %%
# The ECG is scaled to a range of 1; samples are lost at random, and the noise has a standard deviation of
# 0.05.
ecg = pywt.data.ecg().astype(float)
ecg = (ecg - ecg.min()) / np.ptp(ecg)
rng = np.random.default_rng(0)
known = rng.random(ecg.size) > 0.5
noisy = ecg + 0.05 * rng.standard_normal(ecg.size)
operator = Mask(torch.from_numpy(known)[None])
y = operator(torch.from_numpy(noisy.astype(np.float32))[None, None])

# %%
# Ten percent of the known samples are held out: each fit returns the iterate that predicts them best. Four
# random starts, fitted as one batch, are averaged. The length of the network's first grid sets how smooth
# it is.
filled = {}
for size in (32, 64, 128):
    network = DeepDecoder((ecg.size,), channels=32, in_size=size, depth=4)
    with warnings.catch_warnings():  # fits end by the held-out samples, not by their residual
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = fit_untrained(
            network,
            operator,
            y,
            max_iter=300,
            tol=1e-3,
            held_out=0.1,
            n_starts=4,
            generator=torch.Generator().manual_seed(0),
        )
    filled[f"network from {size} points"] = fit.x[0, 0].numpy()

# %%
# The smoothing spline chooses its own smoothness by generalised cross-validation.
time = np.arange(ecg.size) / 360
filled["smoothing spline"] = make_smoothing_spline(time[known], noisy[known])(time)
filled["straight lines"] = np.interp(time, time[known], noisy[known])
errors = {name: float(np.sqrt(np.mean((values - ecg) ** 2))) for name, values in filled.items()}
for name, value in errors.items():
    print(f"{name}: error {value:.4f}")

# %%
# One beat, and the errors of the whole signal.
best = min((name for name in filled if name.startswith("network")), key=lambda name: errors[name])
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=[1.6, 1])
left.plot(time[known], noisy[known], ".", color="0.65", label="known samples")
left.plot(time, ecg, color="0.2", linewidth=3.5, alpha=0.4, label="true")
left.plot(time, filled["smoothing spline"], color=ORANGE, linewidth=1.2, label="smoothing spline")
left.plot(time, filled[best], color=BLUE, linewidth=1.2, label=best)
left.set(xlabel="time (s)", ylabel="ECG (fraction of range)", xlim=(1.2, 1.9), ylim=(-0.1, 1.15))
left.legend(frameon=False, fontsize=9, loc="upper right")
right.barh(range(len(errors)), list(errors.values()), color=[BLUE] * 3 + [ORANGE, "0.6"])
right.set_yticks(range(len(errors)), list(errors))
right.invert_yaxis()
right.set(xlabel="root mean squared error")
plt.show()

# %%
# What was learned
# ----------------
#
# - The network keeps the steep peaks and is smooth elsewhere; a spline of one smoothness for all has to
#   choose.
# - A long first grid can follow the noise, so that its error is larger.
# - It costs seconds where the spline takes milliseconds. For smooth signals take the spline.
assert errors[best] < 0.9 * errors["smoothing spline"]
