"""The simulated experiments of DCEA in miniature."""

from dataclasses import replace

import pytest

from calepin.datasets import read_image
from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea import misspecified, simulated, untied
from calepin_papers.dcea._planted import Planted

SMALL = Planted(n_signals=30, n_components=2, kernel=20, length=150, n_events=2)
TINY = {
    "dcea-simulated": simulated.Settings(
        SMALL, n_draws=1, n_iter=25, n_passes=2, random_passes=2, bcomp_rounds=2, groups=(5, 10)
    ),
    "dcea-untied": untied.Settings(SMALL, n_draws=1, n_unfold=10, n_passes=(2, 2)),
    "dcea-misspecified": misspecified.Settings(
        replace(SMALL, baseline=-2.0), trials=(30, 200), n_draws=1, n_rounds=2
    ),
}
VALUES = {
    "dcea-simulated": {"err_max", "err_random_start", "seconds_dcea_100", "seconds_bcomp_100"},
    "dcea-untied": {"err_near_tied", "err_windows_Wd"},
    "dcea-misspecified": {"b_30", "g_30", "g_200", "b_200"},
}


@pytest.mark.parametrize("name", TINY)
def test_values_figures_and_claims_are_there(name, tmp_path):
    (experiment,) = find([name], EXPERIMENTS)
    result = perform(replace(experiment, quick=TINY[name]), tmp_path, seed=1)
    assert VALUES[name] <= result["values"].keys()
    assert all(result["values"][value] >= 0 for value in VALUES[name])
    assert len(result["claims"]) >= 2
    for figure in result["figures"]:
        assert read_image(tmp_path / name / figure).pixels.std() > 0.03


def test_the_seed_decides_the_errors(tmp_path):
    (experiment,) = find(["dcea-misspecified"], EXPERIMENTS)
    tiny = replace(experiment, quick=TINY["dcea-misspecified"])
    first, second = (perform(tiny, tmp_path, seed=1)["values"] for _ in range(2))
    assert first == second


def test_a_tied_network_ends_nearer_and_an_untied_one_farther(tmp_path):
    """The claims of dcea-untied in miniature, but for the ratio, which needs longer training."""
    settings = untied.Settings(
        replace(SMALL, n_signals=200), n_draws=1, n_unfold=30, n_passes=(8, 12), batch_size=25,
        learning_rate=0.01,
    )  # fmt: skip
    (experiment,) = find(["dcea-untied"], EXPERIMENTS)
    result = perform(replace(experiment, quick=settings), tmp_path, seed=0)
    claims = {claim["claim"]: claim["holds"] for claim in result["claims"]}
    assert [holds for text, holds in claims.items() if not text.startswith("untied, from windows")] == [
        True
    ] * 3
