"""Our own training for photons in miniature: it resumes, learns, and is measured on both kinds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.experiments import Run, find
from calepin.learning import train_steps
from calepin.networks import pretrained
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea import poisson, training
from calepin_papers.dcea.training import Recipe, Stage, fresh_network, train_network, windowed_cosines

TINY = Recipe(
    (
        Stage(2, 6, n_unfold=3, n_shifts=1, crop=12, learning_rate=3e-3, last=0.5, average=3),
        *(Stage(peak, 3, n_unfold=4, n_shifts=2, crop=12, learning_rate=1e-3) for peak in (4, 2, 1)),
    ),
    n_components=9,
    kernel=5,
    stride=3,
    n_linear=2,
)


def images(n=6, size=15):
    rows = torch.linspace(0.2, 1, size)
    return torch.stack([rows.roll(k)[:, None] * rows for k in range(n)])[:, None]


def test_it_is_registered():
    assert find(["dcea-poisson"], EXPERIMENTS) == [poisson.DCEA_POISSON]


def test_the_first_filters_are_one_flat_one_and_pairs_of_both_signs():
    atoms = windowed_cosines(9, 5, 0.25)
    torch.testing.assert_close(atoms.flatten(1).norm(dim=1), torch.full((9,), 0.25))
    assert atoms[0].min() > 0
    assert torch.equal(atoms[1::2], -atoms[2::2])
    assert torch.linalg.matrix_rank(atoms.flatten(1)) == 5


def test_the_last_units_begin_with_a_negative_bias():
    network = fresh_network(TINY, tied=True)
    torch.testing.assert_close(network.alpha.flatten(), torch.tensor([0.1] * 7 + [-0.5] * 2))


def test_a_run_that_stopped_goes_on_to_the_same_weights(tmp_path):
    def run(checkpoint, *, stop_at=None):
        network = fresh_network(TINY, tied=False)

        def progress(part):
            if stop_at is not None and part >= stop_at:
                raise KeyboardInterrupt

        trained = train_network(
            network, images(), TINY, TINY.stages[0], seed=1, checkpoint=checkpoint, progress=progress
        )
        assert torch.equal(network.atoms, fresh_network(TINY, tied=False).atoms)  # it stays as it is
        return trained

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", stop_at=0.5)
    for again in (run(tmp_path / "run"), run(tmp_path / "run")):
        for mine, expected in zip(again.parameters(), whole.parameters(), strict=True):
            assert torch.equal(mine, expected)


@pytest.mark.parametrize("average", [6, None])
def test_a_stage_ends_with_the_mean_of_its_weights_where_that_is_wanted(average, monkeypatch):
    seen = []

    def watch(state):
        seen.append(state.learned.network.atoms.detach().clone())

    def watched(*settings, callbacks, **how):
        return train_steps(*settings, callbacks=[*callbacks, watch], **how)

    monkeypatch.setattr(training, "train_steps", watched)
    stage = replace(TINY.stages[0], average=average)
    network = train_network(fresh_network(TINY, tied=True), images(), TINY, stage, seed=1)
    expected = seen[-1] if average is None else torch.stack(seen).mean(0)
    torch.testing.assert_close(network.atoms.detach(), expected)
    assert not torch.allclose(seen[-1], torch.stack(seen).mean(0))


@pytest.mark.parametrize("train_all", [True, False])
def test_each_network_is_measured_on_each_set(tmp_path, monkeypatch, train_all):
    rng = np.random.default_rng(0)
    clean = [np.round(255 * rng.uniform(0.2, 1) * images(1, 16)[0, 0].numpy()) for _ in range(2)]
    monkeypatch.setattr(poisson, "training_images", lambda count: images())
    monkeypatch.setattr(poisson, "clean_images", lambda name, count: clean)
    settings = replace(
        poisson.DCEA_POISSON.quick,
        recipes={"untied": TINY, "tied": TINY},
        train_all=train_all,
        sets=("set12",),
    )
    reported = []
    run = Run(0, "cpu", tmp_path, lambda part, text: reported.append(part))
    values = poisson.measure(settings, run).values
    for kind in ("tied", "untied"):
        for peak in (1, 2, 4):
            label = f"set12_{kind}_peak{peak}"
            assert values[f"{label}_min"] <= values[label] <= values[f"{label}_max"]
    assert reported == sorted(reported)
    assert ("begin_after" in values) != train_all
    assert len(list(tmp_path.glob("*.safetensors"))) == (6 if train_all else 0)


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize("peak", [1, 2, 4])
def test_shipped_networks_say_what_they_are(kind, peak):
    net = pretrained(f"dcea-poisson-{kind}-peak{peak}")
    assert net.tied == (kind == "tied")
    assert (net.residual_bound, net.stride, tuple(net.atoms.shape)) == (peak, 7, (169, 1, 11, 11))
