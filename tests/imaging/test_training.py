from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.imaging import DenoiserSettings, new_denoiser, train_denoiser
from calepin.networks import UnfoldedDenoiser, pretrained
from calepin.operators import ConvDictionary
from calepin.penalties import HardThreshold

SMALL = DenoiserSettings(
    n_components=12,
    kernel=5,
    stride=2,
    n_unfold=4,
    local_mean=9,
    n_steps=60,
    batch_size=3,
    crop=16,
    learning_rate=5e-3,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small lose more than they gain by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def discs(n=12, size=24):
    """Bright discs on dark ground, (n, 1, size, size)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    top, left = rng.uniform(6, 18, (2, n, 1, 1))
    inside = (rows - top) ** 2 + (columns - left) ** 2 < rng.uniform(3, 7, (n, 1, 1)) ** 2
    return torch.from_numpy(np.where(inside, 0.8, 0.2).astype(np.float32))[:, None]


def test_the_first_dictionary_has_norm_one_where_the_step_is_one():
    net = new_denoiser(SMALL, seed=4)
    assert float(net.step_size) == 1
    large = ConvDictionary(net.atoms.detach(), signal_shape=(80, 80), stride=2, boundary="circular")
    assert large.norm_squared() == pytest.approx(1, rel=0.02)


def test_a_papers_setting_is_data():
    settings = DenoiserSettings(
        penalty="hard", threshold=0.05, learn_threshold=False, step_size=0.1, tied=True
    )
    net = new_denoiser(settings)
    assert (net.penalty, net.tied, net.local_mean) == (HardThreshold, True, None)
    assert tuple(net.atoms.shape) == (64, 1, 9, 9)
    torch.testing.assert_close(net.atoms.detach().flatten(1).norm(dim=1), torch.ones(64))
    with pytest.raises(ValueError, match="penalty: expected one of 'l1', 'hard', got 'soft'"):
        new_denoiser(DenoiserSettings(penalty="soft"))
    with pytest.raises(ValueError, match="stride: expected at most the kernel's size"):
        new_denoiser(DenoiserSettings(kernel=3, stride=4))
    with pytest.raises(ValueError, match="crop: expected an integer of at least 9 or None, got 8"):
        train_denoiser(DenoiserSettings(crop=8), discs())


def test_training_removes_noise():
    net, state = train_denoiser(SMALL, discs())
    assert state.n_steps == 60
    x = discs()
    y = x + 25 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (net(y) - x).square().mean() < 0.5 * (y - x).square().mean()


def test_a_whole_run_ends_with_the_mean_of_its_weights_where_that_is_wanted():
    seen = []

    def watch(state):
        seen.append(state.learned.network.atoms.detach().clone())

    settings = replace(SMALL, n_steps=20)
    last, _ = train_denoiser(settings, discs(), callbacks=[watch])
    assert torch.equal(last.atoms, seen[-1])
    mean, _ = train_denoiser(replace(settings, average=20), discs())
    torch.testing.assert_close(mean.atoms.detach(), torch.stack(seen).mean(0))
    assert not torch.allclose(mean.atoms, last.atoms)


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path):
    checkpoint = tmp_path / "run"
    whole, _ = train_denoiser(SMALL, discs())
    _, stopped = train_denoiser(
        SMALL, discs(), callbacks=[lambda state: state.n_steps == 23], checkpoint=checkpoint
    )
    assert stopped.n_steps == 23
    resumed, state = train_denoiser(SMALL, discs(), checkpoint=checkpoint)
    finished, again = train_denoiser(SMALL, discs(), checkpoint=checkpoint)
    assert state.n_steps == again.n_steps == 60
    for expected, *others in zip(*(net.parameters() for net in (whole, resumed, finished)), strict=True):
        assert all(torch.equal(expected, other) for other in others)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    checkpoint = tmp_path / "run"
    train_denoiser(SMALL, discs(), callbacks=[lambda state: True], checkpoint=checkpoint)
    with pytest.raises(ValueError, match="of another run: its network.n_unfold was 4, now 5"):
        train_denoiser(replace(SMALL, n_unfold=5), discs(), checkpoint=checkpoint)


def test_the_network_to_go_on_from_stays_as_it_is():
    start = new_denoiser(SMALL)
    before = [parameter.detach().clone() for parameter in start.parameters()]
    net, _ = train_denoiser(replace(SMALL, n_steps=3), discs(), start=start)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), before, strict=True))
    assert not torch.equal(net.atoms, start.atoms)


def test_networks_that_calepin_ships_are_known_by_name():
    net = pretrained("bsd-gaussian")
    assert isinstance(net, UnfoldedDenoiser)
    assert net.card["sigma_range"] == pytest.approx([0, 75 / 255])
    with pytest.raises(ValueError, match="name: expected one of .*bsd-gaussian.*, got 'dncnn'"):
        pretrained("dncnn")
