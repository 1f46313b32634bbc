"""What of the paper is reproduced, item by item, in the order of its text."""

from functools import partial

from calepin.experiments import Item

__all__ = ["ITEMS"]

_item = partial(Item, "Untrained networks")
_THEORY = "tests/papers/test_untrained_theory.py"

ITEMS: tuple[Item, ...] = (
    # 1, introduction
    _item(
        "Section 1, denoising",
        "Denoising critically needs early stopping: without it the noise is fitted and not removed.",
        "cs-early-stopping",
        "holds in part",
        values=(
            "psnr_given_denoising",
            "psnr_best_denoising",
            "psnr_final_denoising",
            "psnr_held_out_denoising",
            "final_over_best_denoising",
        ),
        claims=("denoising needs", "stopped early"),
        because="At 1,500 iterations most of the noise is fitted, not all: the final image is still "
        "about a decibel better than the noisy one. Art at 64x64, sigma 25/255.",
    ),
    _item(
        "Section 1, inpainting",
        "Inpainting and compressive sensing need no further regularisation.",
        "cs-early-stopping",
        "holds",
        values=("final_over_best_inpainting", "final_over_best_compressive"),
        claims=("inpainting needs none", "compressive sensing needs none"),
    ),
    _item(
        "Section 1, super-resolution",
        "With early stopping, untrained networks are excellent at super-resolution.",
        "cs-early-stopping",
        "holds in part",
        values=(
            "psnr_given_superresolution",
            "psnr_best_superresolution",
            "final_over_best_superresolution",
        ),
        claims=("super-resolution without noise needs none",),
        because="Twofold, without noise: an early stop is not needed, and the network is no better than"
        " bicubic interpolation (psnr_given_superresolution).",
    ),
    _item(
        "Section 1, inpainting of print",
        "Missing pixels, also those under print, are restored (Ulyanov et al. 2018).",
        "cs-inpainting",
        "holds",
        values=("gain_random", "gain_text"),
        claims=("missing pixels", "pixels under print"),
    ),
    _item(
        "Fig. 1a",
        "Training loss of art and grass, m = n/4, 5-layer deep decoder.",
        "cs-images",
        "differs",
        because="Figure training.png. 64x64 and 400 iterations (quick scale), Adam; the paper has "
        "256x256. At its scale one iteration with a fresh 16384 x 65536 Gaussian matrix takes "
        "seconds, and 20,000 iterations days, on two cores. The largest run done is 64x64.",
    ),
    _item(
        "Fig. 1b, art",
        "A smooth image is recovered to a good solution, and early stopping does not improve it.",
        "cs-images",
        "holds",
        values=(
            "art",
            "final_over_best_art",
            "art_single",
            "art_gaussian",
            "final_over_best_art_gaussian",
        ),
        claims=(
            "a smooth image is recovered",
            "no early stop is needed",
            "Gaussian A, one start: squared error of art",
            "Gaussian A, one start: final over best",
        ),
    ),
    _item(
        "Fig. 1b, grass",
        "The smooth image has a smaller loss than the grass texture.",
        "cs-images",
        "holds",
        values=("grass", "grass_over_art", "grass_gaussian", "grass_over_art_gaussian"),
        claims=("grass is harder", "Gaussian A, one start: error of grass over art"),
    ),
    _item(
        "Fig. 1b, grass without an early stop",
        "Early stopping does not improve performance for this example.",
        "cs-images",
        "does not hold",
        values=("final_over_best_grass", "final_over_best_grass_gaussian", "final_over_best_grass_prior"),
        because="The best iterate of grass is better by 13 to 22 % of the squared error, with the deep "
        "image prior by 28 to 42 %; that of art by 1 to 4 %.",
    ),
    _item(
        "Fig. 1, deep image prior",
        "The figure looks qualitatively the same with a U-net like deep image prior.",
        "cs-images",
        "differs",
        values=("art_prior", "grass_over_art_prior", "final_over_best_art_prior"),
        claims=("deep image prior",),
        because="Grass is harder and art needs no early stop here too, but the fits are short: 200 "
        "iterations of a three-level network at 64x64.",
    ),
    _item(
        "Fig. 1, data set",
        "Two images, art and grass, from the authors' repository.",
        "docs/reference/data.md",
        "differs",
        because="Those of the authors if CALEPIN_DATA has them (stored results do); two of scikit-image"
        " else.",
    ),
    _item(
        "Fig. 1, setting",
        "Gaussian A, one start, n = 256 x 256, 5 layers (authors' code: 256 channels, Adam).",
        "cs-images",
        "differs",
        values=("art_gaussian", "grass_gaussian"),
        because="64x64, 64 channels, Adam .01, 400 iterations. Beside the Gaussian matrix and one start"
        " stand a Hadamard transform and the average of three starts. The paper's size is "
        "`--scale paper`, not run.",
    ),
    _item(
        "Section 1.1, eqs. 1 and 2",
        "The loss 1/2 ||A G(C) - y||^2, fitted from a random start by gradient descent.",
        "calepin.reconstruction.fit_untrained",
        "holds",
    ),
    _item(
        "Section 1.1, baselines",
        "For multi-coil MRI untrained networks improve upon l1 and total variation (Arora et al. 2020).",
        "cs-mri",
        "holds in part",
        values=(
            "decoder_over_l1wavelet",
            "decoder_over_variation",
            "decoder_over_l1wavelet_2d_4x",
            "decoder_over_variation_2d_4x",
            "decoder_over_l1wavelet_1d",
            "decoder_over_variation_1d",
            "decoder_over_l1wavelet_1d_8x",
            "decoder_over_variation_1d_8x",
        ),
        claims=("points, 8x: dB of the decoder over wavelets", "points, 8x: dB of the decoder over total"),
        because="For points at 8x by about a decibel. For points at 4x and for columns total variation,"
        " its weight chosen by the truth, is better than the decoder by .6 to .8 dB.",
    ),
    # 2, generators
    _item(
        "Fig. 2, eq. 10",
        "Orthonormal trigonometric functions, lowest frequency first.",
        "calepin.reconstruction.trigonometric_basis",
        "differs",
        because="Eq. 10 as printed lists all cosines before the sines; ours is ordered by frequency, as"
        " Fig. 2 is.",
    ),
    _item("Eq. 3", "The two-layer generator ReLU(U C) v.", "calepin.networks.TwoLayerGenerator", "holds"),
    _item(
        "Eq. 4",
        "The deep decoder of d layers with channel normalisation.",
        "calepin.networks.DeepDecoder",
        "differs",
        because="The 1x1 convolution is computed before the upsampling, with which it commutes, and "
        "images end in a sigmoid, as in the authors' code.",
    ),
    # 3, linear generators
    _item(
        "Eqs. 5 and 6",
        "Gradient descent on a linear generator converges to the estimate of minimal norm.",
        _THEORY,
        "holds",
    ),
    _item(
        "Theorem 1, eq. 7",
        "The squared error is at most C (sum <w_i, x>^2 / sigma_i^2) sum of sigma_i^2 beyond 2m/3.",
        "cs-linear",
        "holds",
        theirs="C is not given (322^2 in the proof)",
        values=("largest_C", "median_C"),
        claims=("Theorem 1 holds",),
    ),
    _item(
        "Eq. 8",
        "With a geometric spectrum, signals of low frequency are recovered almost perfectly.",
        "cs-linear",
        "holds",
        values=("err_m30", "err_m60", "err_m120"),
        claims=("low frequencies are recovered",),
    ),
    # 4, convolutional generators
    _item(
        "Eq. 11",
        "The kernel alone gives the singular values of the Jacobian.",
        "cs-kernels",
        "holds",
        values=("median_top21_k64", "median_top21_k256", "median_top21"),
        claims=("eq. 11 gives",),
    ),
    _item(
        "Section 4, singular vectors",
        "Left singular vectors of the two-layer Jacobian are well approximated by trigonometric functions.",
        "cs-kernels",
        "holds",
        values=("subspace_energy_k64", "subspace_energy_k256", "subspace_energy"),
        claims=("the leading vectors span",),
    ),
    _item(
        "Fig. 3",
        "Triangular kernels: the wider, the more the weights are concentrated at low frequencies.",
        _THEORY,
        "holds",
    ),
    _item(
        "Fig. 3, decay",
        "The weights decay geometrically: a straight line in the log-log plot.",
        "cs-kernels",
        "does not hold",
        values=(
            "decay_exponent_width3",
            "decay_exponent_width7",
            "decay_exponent_width15",
            "decay_exponent_width31",
        ),
        because="A straight line in a log-log plot is a power law, not a geometric sequence. From "
        "frequency 8 on the weights of eq. 11 fall like this power of the frequency, because "
        "arccos makes a kink at lag 0.",
    ),
    _item(
        "Theorem 2, eq. 13",
        "The two-layer generator, run to convergence, is within the bound of Theorem 1 plus xi^2 ||x||^2.",
        "cs-two-layer",
        "holds",
        values=("error_over_bound", "err_xi1", "err_xi0.3", "err_xi0.1", "err_xi0.03"),
        claims=("eq. 13 holds",),
    ),
    _item(
        "Theorem 2, number of measurements",
        "O(p) measurements are enough for a p-smooth signal.",
        "cs-two-layer",
        "holds",
        values=("err_1p", "err_2p", "err_3p", "err_4p", "err_6p"),
        claims=("four measurements a frequency",),
    ),
    _item(
        "Theorem 2, convergence",
        "Gradient descent until convergence, without early stopping.",
        "cs-two-layer",
        "holds",
        values=("final_over_best_max", "final_over_best_max_any_m"),
        claims=("no early stop is needed",),
    ),
    _item(
        "Theorem 2, eqs. 12 and 52",
        "With k >= C m / xi^8 channels the network is within xi ||x|| of its linear limit.",
        "cs-two-layer",
        "holds in part",
        values=(
            "from_linear_k64",
            "from_linear_k256",
            "from_linear_k1024",
            "from_linear_exponent",
            "error_over_linear",
        ),
        because="Not for k that can be computed: up to 1024, at m = 44, the distance hardly falls (eq. "
        "12: an exponent of -1/8), and the network is nearer to the signal than its linear "
        "limit is. At m = 2 it falls (Section 7.2).",
    ),
    _item(
        "Theorem 2, setting",
        "Gradient descent with a constant step size, A Gaussian, C_0 normal of deviation omega.",
        "cs-two-layer",
        "differs",
        values=("n_iter_max",),
        because="With momentum .95, until the residual is a thousandth of the measurements.",
    ),
    _item(
        "Section 4.1, singular vectors",
        "Leading singular vectors of a four-layer decoder's Jacobian are close to trigonometric functions.",
        "cs-jacobian",
        "holds in part",
        values=(
            "line_energy_start",
            "line_energy_end",
            "line_energy_twice_start",
            "line_energy_twice_end",
        ),
        claims=("1-D: 21 leading vectors",),
        because="21 vectors have about .8 of their energy in the 21 lowest functions and .95 in the 42 "
        "lowest; those of two layers have .99 in the 21 lowest. Interpolation at the ends is "
        "not circular.",
    ),
    _item(
        "Section 4.1, their change",
        "The leading singular vectors change only little across iterations.",
        "cs-jacobian",
        "holds in part",
        values=("line_overlap", "line_late_overlap", "overlap"),
        because="In one dimension the subspace hardly changes from iteration 50 on (line_late_overlap),"
        " but from the start .7 of its energy is kept; for images .55.",
    ),
    _item(
        "Fig. 4, decay",
        "Singular values of a four-layer decoder decay slightly faster than geometrically.",
        "cs-jacobian",
        "holds in part",
        values=("decay_rate", "fall", "over_geometric", "over_geometric_max"),
        claims=("the leading 25% of the singular values fall", "the leading 25% fall at least geometrically"),
        because="The leading quarter, in the median of six spectra; the others fall more slowly. With seed"
        " 2 one value of one spectrum lies .03 % above the geometric sequence.",
    ),
    _item(
        "Fig. 4, change",
        "The spectrum changes only slightly across iterations.",
        "cs-jacobian",
        "does not hold",
        values=("drift", "late_drift"),
        because="Over sigma_1, leading values change by a factor of 1.7 to 1.9 from the start (exp of "
        "drift), and by 2 to 3 from iteration 50 to 400, with 32 channels and Adam at .01.",
    ),
    # 5, MRI
    _item(
        "Fig. 5",
        "Optimal early stopping is only marginally better than optimising until convergence.",
        "cs-mri-convergence",
        "holds in part",
        theirs="best at about 2000 iterations",
        values=(
            "final_over_best_points",
            "best_iteration_points",
            "final_over_best_columns",
            "best_iteration_columns",
        ),
        claims=("points: an early stop would hardly help", "points: at convergence"),
        because="For points at 8x: the best of a thousand iterates, at 5,730, is better by a tenth, as "
        "iterates of Adam fluctuate; at quick scale it is one of the last. For columns at 8x, the "
        "sampling of fastMRI, the best iterate is early (120) and better by a fifth, and the decoder "
        "is farther from the truth than zero filling.",
    ),
    _item(
        "Fig. 5, in our way",
        "The same for coils fitted together, weights on k-space, averaged starts and data consistency.",
        "cs-mri",
        "holds",
        values=(
            "final_over_best",
            "final_over_best_2d_4x",
            "final_over_best_1d",
            "final_over_best_1d_8x",
            "gain",
        ),
        claims=("no early stop is needed for points", "an eighth of k-space"),
    ),
    _item(
        "Section 5, data set",
        "fastMRI of NYU and Facebook.",
        "",
        "missing",
        because="The data need a signed agreement. Ours is one fully sampled public slice of a head, 8 "
        "coils.",
    ),
    _item(
        "Section 5, setting",
        "8-fold undersampling, d = 5 layers, highly over-parameterised.",
        "cs-mri-convergence",
        "differs",
        values=("error_points", "error_zero_filled_points", "residual_points"),
        because="5 layers and 8x as in the paper, 256 channels and 10,000 iterations; a public slice "
        "of 320x168 samples and 8 coils in place of fastMRI. Quick: 64 channels, 80x84, 1,500.",
    ),
    # 7 and appendix
    _item(
        "Section 7.1, eqs. 15 and 16",
        "The iterates of the nonlinear and the linearised problem are close throughout the run.",
        "cs-linearised",
        "holds",
        values=("weights_apart_k256", "weights_apart_k1024", "weights_apart_k4096", "weights_apart_k16384"),
        claims=("weights of both come closer",),
    ),
    _item(
        "Section 7.2",
        "The network's signal at convergence is close to that of the linear problem.",
        "cs-linearised",
        "holds",
        values=("signals_apart_k256", "signals_apart_k16384"),
        claims=("both end at nearly the same signal",),
    ),
    _item(
        "Proposition 1",
        "A sharper form of Theorem 1, with constants.",
        "cs-linear",
        "holds",
        theirs="322^2",
        values=("largest_C",),
        claims=("Theorem 1 holds",),
    ),
    _item("Eq. 20", "The Jacobian of the two-layer generator.", _THEORY, "holds"),
    _item(
        "Theorem 3",
        "Theorem 2 for any U, with k >= C kappa^26 m / xi^8 and omega = xi ||y|| / (2 sqrt(n) ||U||).",
        "cs-two-layer",
        "differs",
        values=("error_over_bound",),
        claims=("eq. 13 holds",),
        because="At convergence, with this omega, for a circulant U. As printed it holds for all "
        "iterations t, which fails at t = 0; kappa^26 is beyond any computer.",
    ),
    _item(
        "Theorem 4, condition",
        "Assumptions 1 to 3 with 2 beta (eps_0 + eps) <= alpha^2.",
        "cs-linearised",
        "holds in part",
        values=("condition_k256", "condition_k1024", "condition_k4096", "condition_k16384", "fraction_met"),
        claims=("the condition 2 beta",),
        because="It is met for two measurements and a large start, from k of about 4096 on. eps is "
        "measured at the iterates, where the proof uses it, not over the whole ball.",
    ),
    *(
        _item(
            f"Theorem 4, eq. {equation}",
            says,
            "cs-linearised",
            "holds",
            values=(f"{name}_over_bound",),
            claims=(f"eq. {equation} holds",),
        )
        for equation, name, says in (
            (34, "residual", "The nonlinear residual falls geometrically."),
            (35, "residuals_apart", "Both residuals are close at every step (eq. 36 follows)."),
            (37, "weights", "The weights of both problems are close."),
            (38, "radius", "The weights stay near the start."),
        )
    ),
    _item("Proposition 2", "Closed forms of linear residual and iterates.", _THEORY, "holds"),
    _item("Lemma 1", "The first signal is bounded by omega sqrt(8 log(2n/delta)) ||U||_F.", _THEORY, "holds"),
    _item("Lemma 2", "||J_G(C)|| is at most ||U||.", _THEORY, "holds"),
    _item(
        "Lemma 3",
        "J_G J_G^T concentrates around Sigma(U), as 1 / sqrt(k).",
        _THEORY,
        "holds",
    ),
    _item("Lemma 4", "There is a reference Jacobian near that at the start.", _THEORY, "holds"),
    _item("Lemma 5", "The Jacobian changes little near a random start.", _THEORY, "holds"),
    _item("Eq. 48", "Norms of a Gaussian matrix with m <= n/9.", _THEORY, "holds"),
)
