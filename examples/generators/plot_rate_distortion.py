"""
Denoising and compression by a generator
========================================

If a generator describes images by ten numbers, these numbers are a compressed file, and what they cannot
describe, such as noise, is gone. How small is the file, and when is something else better?
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from calepin import GenerativeDictionaryLearner
from calepin.compression import compress, decompress, rate_distortion
from calepin.datasets import load_digits
from calepin.estimators import UnderdeterminedWarning
from calepin.metrics import psnr
from calepin.networks import pretrained

STYLE = {"latents": ("#0072B2", "o"), "PCA": ("#D55E00", "s"), "OMP": ("#009E73", "^")}

# %%
# The last layer is learned from 1000 noisy digits; 200 other noisy digits, which the network has not seen,
# are compressed. The clean ones are for the comparison only.
digits, _ = load_digits()
rng = np.random.default_rng(0)
noisy = digits + 0.2 * rng.standard_normal(digits.shape).astype(np.float32)
training, test, clean = noisy[:1000], noisy[1500:1700], digits[1500:1700]
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UnderdeterminedWarning)
    model = GenerativeDictionaryLearner(pretrained("vae-digits").generator(), random_state=0).fit(training)

# %%
# The file holds quantised and entropy coded latents. ``decompress`` needs the same model, and refuses
# another.
content = compress(test, model, bits=6)
restored = decompress(content, model)
bits = 8 * len(content) / len(test)
print(f"{len(content)} bytes, {bits:.0f} bits a digit, 1/{32 * 64 / bits:.0f} of float32")
print(f"noisy {psnr(test, clean):.1f} dB, restored {psnr(restored, clean):.1f} dB")

# %%
# The same rate spent by other methods, on the clean digits: principal components, and a learned dictionary
# with sparse codes, both from the same 1000 noisy digits, quantised and coded in the same way.
curves = rate_distortion(clean, model, training=training, bits=(2, 3, 4, 5, 6, 8))
figure = plt.figure(figsize=(9.5, 3.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.3, 1])
for line, (name, images) in zip(
    left.subplots(3, 6), {"clean": clean, "noisy": test, f"{bits:.0f} bits": restored}.items(), strict=True
):
    for place, image in zip(line, images, strict=False):
        place.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        place.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
axes = right.subplots()
for name, (colour, marker) in STYLE.items():
    axes.plot(curves[name].bits, curves[name].psnr, color=colour, marker=marker, markersize=4, label=name)
axes.set(xlabel="bits per digit", ylabel="PSNR (dB)", xlim=(0, 180), ylim=(11, 26))
axes.legend(frameon=False, loc="lower right")
plt.show()

# %%
# What was learned
# ----------------
#
# - The latents denoise while they compress: the restored digits are nearer to the clean ones than the noisy
#   ones that were compressed.
# - The curve of the latents ends early: ten numbers describe a digit only so well, at any number of bits.
#   Principal components go on, and are better where there are bits enough.
# - Compare before you choose: ``rate_distortion`` draws these curves for your model and your samples.
assert psnr(restored, clean) > psnr(test, clean)
assert curves["PCA"].psnr.max() > curves["latents"].psnr.max()
