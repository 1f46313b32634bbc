"""The denoising experiment in miniature; what it needs and what it says without it."""

import math
from dataclasses import replace

import pytest

from calepin.experiments import perform
from calepin_papers import EXPERIMENTS
from calepin_papers.pudle.denoise import PUDLE_DENOISE

SMALL = {"n_components": 16, "kernel": 6, "stride": 3, "n_unfold": 3}


def miniature():
    quick = PUDLE_DENOISE.quick
    return replace(
        PUDLE_DENOISE,
        quick=replace(
            quick,
            lambdas=(0.1, 0.2),
            levels=(0.05,),
            n_images=1,
            n_noises=2,
            n_seeds=1,
            tied=replace(quick.tied, n_steps=50, crop=33, **SMALL),
            untied=replace(quick.untied, n_steps=80, crop=20, **SMALL),
        ),
    )


@pytest.mark.usefixtures("public_data")
def test_a_miniature_has_all_values_and_figures_whatever_the_threads(tmp_path, with_threads):
    one, two = (with_threads(n, lambda n=n: perform(miniature(), tmp_path / str(n))) for n in (1, 2))
    assert one["values"] == two["values"]
    values = one["values"]
    assert all(math.isfinite(value) for value in values.values())
    assert {"psnr_dec", "psnr_ls", "psnr_ht", "psnr_untied_1_shift", "shift_gain", "psnr_ls_0.2"} <= set(
        values
    )
    assert values["psnr_untied_1_shift"] > 22
    assert values["shift_gain"] > 0
    assert 0 < values["noise_deviation"] < 0.2
    assert values["psnr_ls"] == max(values["psnr_ls_0.1"], values["psnr_ls_0.2"])
    assert one["figures"] == ["training.png", "before-after.png", "table-1.png"]
    assert all((tmp_path / "1" / "pudle-denoise" / name).stat().st_size > 10_000 for name in one["figures"])


def test_the_papers_setting_is_that_of_its_appendix():
    paper = PUDLE_DENOISE.paper
    assert EXPERIMENTS["pudle-denoise"] is PUDLE_DENOISE
    assert (paper.lambdas, paper.levels) == ((0.08, 0.12, 0.16, 0.2), (0.02, 0.05, 0.08, 0.1))
    kinds = [(kind, how.detach_codes, how.penalty) for kind, _, how in paper.networks()]
    assert kinds == [
        *[("dec", True, "l1")] * 4,
        *[("ls", False, "l1")] * 4,
        *[("ht", False, "hard")] * 4,
        ("untied", False, "l1"),
    ]
    for _, _, how in paper.networks()[:-1]:
        assert (how.n_components, how.kernel, how.stride, how.n_unfold, how.step_size, how.crop) == (
            64,
            9,
            4,
            15,
            0.1,
            129,
        )
        assert (how.learning_rate, how.eps, how.tied, how.local_mean) == (1e-4, 1e-3, True, None)


def test_without_the_data_one_line_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="train400 is needed: set CALEPIN_DATA"):
        perform(PUDLE_DENOISE, tmp_path)
