"""
Denoising a photograph: dictionary, network, and two peers
==========================================================

:func:`calepin.denoise` has three methods: a dictionary that is adapted to the patches of the noisy image
itself, a network that was trained on other photographs, and "best", the dictionary with the network as its
guide. How do they compare, with each other and with the denoisers of scikit-image?
"""

import matplotlib.pyplot as plt
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

import calepin
from calepin.datasets import GaussianNoise, add_noise, load_sample
from calepin.metrics import psnr, ssim

# %%
# A part of the cameraman with white noise of standard deviation 25 of 255 gray levels.

clean = load_sample("camera").pixels[:288, 100:388]
noise = GaussianNoise(25 / 255)
noisy = add_noise(clean, noise, random_state=0)

# %%
# The peers get their best setting for this image, which in practice nobody knows: the strength with the
# highest PSNR of a few. calepin is given the noise level and nothing else.


def best(candidates):
    """Return the candidate with the highest PSNR."""
    return max(candidates, key=lambda image: psnr(image, clean))


results = {
    "total variation (scikit-image)": best(
        denoise_tv_chambolle(noisy, weight=weight) for weight in (0.08, 0.1, 0.12, 0.15)
    ),
    "non-local means (scikit-image)": best(
        denoise_nl_means(noisy, h=h * noise.sigma, sigma=noise.sigma, patch_size=5, patch_distance=7)
        for h in (0.4, 0.6, 0.8)
    ),
    "dictionary": calepin.denoise(noisy, noise=noise, method="dictionary").image,
    "network": calepin.denoise(noisy, noise=noise, method="network").image,
    "best": calepin.denoise(noisy, noise=noise, method="best").image,
}

figure, axes = plt.subplots(2, 4, figsize=(14, 8), layout="constrained")
shown = {"clean": clean, "noisy": noisy, **results}
for panel, (name, image) in zip(axes.flat, shown.items(), strict=False):
    panel.imshow(image[30:190, 60:220], cmap="gray", vmin=0, vmax=1)
    panel.set_title(name if name == "clean" else f"{name}\n{psnr(image, clean):.2f} dB", fontsize=11)
    panel.set_axis_off()

axes.flat[-1].set_axis_off()

# %%
# The *method noise* is what a method took away. With the true image unknown, it is the best that one can
# look at: it should be noise, and no edge of the image should be seen in it.

figure, axes = plt.subplots(1, 5, figsize=(15, 3.6), layout="constrained")
for panel, (name, image) in zip(axes, results.items(), strict=True):
    removed = (noisy - image) / noise.sigma
    drawn = panel.imshow(removed[30:190, 60:220], cmap="gray", vmin=-3, vmax=3)
    panel.set_title(f"{name}\nstandard deviation {removed.std():.2f}", fontsize=11)
    panel.set_axis_off()
figure.colorbar(drawn, ax=axes, label="noisy - denoised, in units of sigma", shrink=0.9)

# %%
# What was learned
# ----------------

quality = {name: psnr(image, clean) for name, image in results.items()}
for name, image in results.items():
    print(f"{name:31} PSNR {quality[name]:.2f} dB   SSIM {ssim(image, clean):.3f}")

# %%
# All methods of calepin are more than a decibel above the peers at their best. The network knows photographs,
# the dictionary this image, and both together are better than either. In the method noise of the peers the
# contours of the man are seen; in that of calepin's methods there is little but noise.

peers = max(value for name, value in quality.items() if "scikit-image" in name)
assert quality["best"] > max(quality["dictionary"], quality["network"]) + 0.05
assert quality["dictionary"] > peers + 0.8
