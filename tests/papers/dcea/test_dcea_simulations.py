"""The simulated experiments of DCEA in miniature: each claim is checked, and would fail without its cause."""

from dataclasses import replace

import numpy as np
import pytest

from calepin.datasets import read_image
from calepin.experiments import Run, find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea import clusters, misspecified, simulated, untied
from calepin_papers.dcea._planted import RECIPES, Planted, learn, perturbed
from calepin_papers.dcea.clusters import cluster_support, peak_support

SMALL = Planted(n_signals=60, n_components=2, kernel=20, length=150, n_events=2)


def held(result):
    return {claim["claim"]: claim["holds"] for claim in result["claims"]}


def drawn(result, folder):
    return all(read_image(folder / name).pixels.std() > 0.03 for name in result["figures"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_comes_nearer_to_the_filters(recipe):
    rng = np.random.default_rng(1)
    data = SMALL.draw(rng)
    found = learn(
        data.X, RECIPES[recipe], planted=SMALL, init=perturbed(data.atoms, 0.35, rng), reference=data.atoms,
        threshold=0.6, n_iter=30, n_passes=6, batch_size=15, n_updates=4, learning_rate=0.02, seed=0,
        device="cpu",
    )  # fmt: skip
    errors = found["errors"].mean(1)
    assert errors[0] == pytest.approx(0.35)
    assert errors[-1] < 0.25


def test_back_propagation_needs_no_re_fit_and_no_number_of_events():
    assert RECIPES["paper"].backpropagated
    assert not RECIPES["paper"].refitted
    assert not RECIPES["paper"].n_events_known
    assert not RECIPES["unknown"].n_events_known


def test_simulated_filters_are_found_from_both_starts(tmp_path):
    settings = simulated.Settings(
        SMALL, n_iter=30, paper_passes=6, n_passes=3, bcomp_rounds=2, paper_random_passes=12, random_passes=8,
        paper_batch=15, groups=(50, 100),
    )  # fmt: skip
    (experiment,) = find(["dcea-simulated"], EXPERIMENTS)
    result = perform(replace(experiment, quick=settings), tmp_path, seed=1)
    near = [holds for text, holds in held(result).items() if "near filters" in text]
    assert near == [True] * 3
    values = result["values"]
    assert values["err_paper_near"] < 0.7 * values["err_start"]
    assert values["err_unknown_random"] < 0.35
    assert drawn(result, tmp_path / "dcea-simulated")


def test_a_gaussian_model_is_worse(tmp_path):
    settings = misspecified.Settings(
        replace(SMALL, amplitude=15.0), recipes=("bcomp",), trials=(30, 200), n_draws=2, n_passes={"bcomp": 3}
    )
    (experiment,) = find(["dcea-misspecified"], EXPERIMENTS)
    tiny = replace(experiment, quick=settings)
    first, second = (perform(tiny, tmp_path, seed=1, resume=False) for _ in range(2))
    assert all(held(first).values())
    assert first["values"] == second["values"]
    assert drawn(first, tmp_path / "dcea-misspecified")


def test_the_weight_of_the_penalty_is_the_best_of_the_grid(tmp_path, monkeypatch):
    errors = {0.1: 0.3, 0.6: 0.1, 1.2: 0.2}

    def error(recipe, model, trials, draw, threshold, settings, run):
        return errors[threshold] + 0.01 * draw + (model == "g")

    monkeypatch.setattr(misspecified, "_error", error)
    settings = misspecified.Settings(recipes=("paper",), thresholds=tuple(errors), n_draws=2)
    values = misspecified.measure(settings, Run(0, "cpu", tmp_path)).values
    assert values["threshold_paper_b_30"] == 0.6
    assert values["paper_b_200"] == pytest.approx(0.105)


def test_a_tied_network_ends_nearer_and_an_untied_one_farther(tmp_path):
    """The claims of dcea-untied in miniature, but for the ratio, which needs longer training."""
    settings = untied.Settings(
        replace(SMALL, n_signals=200), n_draws=1, n_unfold=30, n_passes=(8, 12), batch_size=25,
        learning_rate=0.01,
    )  # fmt: skip
    (experiment,) = find(["dcea-untied"], EXPERIMENTS)
    result = perform(replace(experiment, quick=settings), tmp_path, seed=0)
    claims = held(result)
    assert [holds for text, holds in claims.items() if not text.startswith("untied, from windows")] == [
        True
    ] * 3


def test_k_means_keeps_the_largest_entry_of_each_cluster():
    code = np.zeros(200)
    code[[20, 21, 22, 90, 91, 150]] = [1.0, 3.0, 2.0, 5.0, 4.0, 0.1]
    assert cluster_support(code, 3, 0).tolist() == [21, 90, 150]
    assert cluster_support(code, 10, 0).tolist() == [20, 21, 22, 90, 91, 150]
    assert peak_support(code, 2, 10).tolist() == [21, 90]
    assert peak_support(code, 9, 10).tolist() == [21, 90, 150]


def test_codes_cluster_around_events_and_a_filter_for_all_units_finds_deflections(tmp_path, monkeypatch):
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    quick = clusters.DCEA_CLUSTERS.quick
    settings = replace(
        quick,
        planted=replace(quick.planted, n_signals=6, length=800, n_events=5),
        recordings=replace(quick.recordings, n_units=2),
        n_iter=60,
        n_passes=1,
    )
    result = perform(replace(clusters.DCEA_CLUSTERS, quick=settings), tmp_path, seed=2)
    assert all(holds for text, holds in held(result).items() if "for each unit" not in text)
    assert result["values"]["own_kmeans_recall"] > 0.9
    assert drawn(result, tmp_path / "dcea-clusters")
