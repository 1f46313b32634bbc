"""The unfolded denoiser for all noise levels: its formula, its symmetries, its files, and bad input."""

import numpy as np
import pytest
import torch

from calepin.core.errors import FileFormatError
from calepin.networks import UnfoldedAutoencoder, UnfoldedDenoiser
from calepin.networks.unfolded_denoiser import _SoftThreshold
from calepin.penalties import L1


def small(**settings) -> UnfoldedDenoiser:
    network = UnfoldedDenoiser.random(6, 4, **{"n_unfold": 3} | settings).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        network.project_()
    return network


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 14, 18, generator=torch.Generator().manual_seed(2), dtype=torch.double)


def test_the_output_is_that_of_the_formula_with_matrices(images):
    """Each step with explicit matrices: atoms at all positions that touch the image, cut at its border."""
    network, sigma = small(stride=2), 0.2
    mean = images[0].mean().item()
    y = np.pad(images[0, 0].numpy(), (0, 2), mode="reflect")  # to whole cells of the grid for each shift
    height, width = y.shape

    def dictionary(atoms: torch.Tensor) -> np.ndarray:
        columns = []
        for atom in atoms[:, 0].detach().numpy():
            for top in range(-2, height, 2):
                for left in range(-2, width, 2):
                    canvas = np.zeros((height + 8, width + 8))
                    canvas[top + 4 : top + 8, left + 4 : left + 8] = atom
                    columns.append(canvas[4 : 4 + height, 4 : 4 + width].ravel())
        return np.array(columns).T

    z, seen = 0.0, (y - mean).ravel()
    for k in range(3):
        residual = -seen if k == 0 else dictionary(network.synthesis[k - 1]) @ z - seen
        v = z - dictionary(network.analysis[k]).T @ residual
        still, growing = network.thresholds[k].detach().numpy()[..., 0, 0]
        threshold = np.repeat(still + growing * sigma, len(v) // 6)
        z = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
    expected = (dictionary(network.atoms) @ z).reshape(y.shape) + mean
    with torch.no_grad():
        got = network(images[:1], sigma, shifts=[(0, 0)])[0, 0].numpy()
    np.testing.assert_allclose(got, expected[:-2, :-2], atol=1e-12)


def test_the_soft_threshold_has_the_gradient_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.double, requires_grad=True)
    for shape in ((2, 3, 1, 1), (2, 3, 4, 4)):
        threshold = torch.rand(shape, generator=generator, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(_SoftThreshold.apply, (v, threshold))


def test_the_initial_layers_contract():
    network = UnfoldedDenoiser.random(6, 4, n_unfold=2).double()
    y = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    with torch.no_grad():
        network.thresholds.zero_()
        few = network(y, 0.0, shifts=[(0, 0)])
        network = UnfoldedDenoiser(network.atoms, n_unfold=40).double()
        network.thresholds.data.zero_()
        many = network(y, 0.0, shifts=[(0, 0)])
    assert (many - y).norm() < 0.3 * (few - y).norm()


def test_levels_are_numbers_of_each_image_or_of_each_pixel(images):
    network = small()
    with torch.no_grad():
        one = network(images, 0.1)
        each = network(images, torch.tensor([0.1, 0.3], dtype=torch.double).view(2, 1, 1, 1))
        pixels = network(images, torch.full_like(images, 0.1))
    torch.testing.assert_close(each[0], one[0])
    torch.testing.assert_close(pixels, one)
    assert not torch.allclose(each[1], one[1])


def test_a_gray_level_is_passed_on_and_shifts_are_averaged(images):
    network = small()
    with torch.no_grad():
        torch.testing.assert_close(network(images + 3, 0.1), network(images, 0.1) + 3)
        single = [network(images, 0.1, shifts=[shift]) for shift in network.all_shifts()]
        torch.testing.assert_close(network(images, 0.1), torch.stack(single).mean(0))
        odd = images[..., :13, :17]
        assert network(odd, 0.1).shape == odd.shape


def test_a_saved_network_is_the_same(tmp_path, images):
    network = small().float()
    network.save(tmp_path / "net.safetensors", card={"sigma_range": [0, 0.3]})
    loaded = UnfoldedDenoiser.load(tmp_path / "net.safetensors")
    assert loaded.card == {"sigma_range": [0, 0.3]}
    with torch.no_grad():
        assert torch.equal(loaded(images.float(), 0.1), network(images.float(), 0.1))
    UnfoldedAutoencoder(torch.ones(2, 1, 3, 3), L1(0.1)).save(tmp_path / "other.safetensors")
    with pytest.raises(FileFormatError, match="unfolded-autoencoder"):
        UnfoldedDenoiser.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: UnfoldedDenoiser(torch.ones(2, 1, 4, 5)), "atoms: expected shape"),
        (lambda y: UnfoldedDenoiser(torch.ones(2, 3, 4, 4)), "atoms: expected shape"),
        (
            lambda y: UnfoldedDenoiser(torch.ones(2, 1, 5, 5)),
            "stride: expected a divisor of the side 5",
        ),
        (lambda y: small()(y[0], 0.1), "y: expected shape"),
        (lambda y: small()(y[..., :3], 0.1), "y: expected shape .* or more"),
        (lambda y: small()(y, -0.1), "sigma: expected"),
        (lambda y: small()(y, y[:, :, :3]), "sigma: expected a number or shape"),
        (lambda y: small()(y, 0.1, shifts=[(0, 2)]), "shifts: expected pairs of 0 to 1"),
        (lambda y: small()(y, 0.1, shifts=[]), "shifts: expected pairs of 0 to 1"),
        (lambda y: small().random_shifts(5), "n_shifts: expected 1 to 4, got 5"),
    ],
)
def test_bad_input_is_named(call, message, images):
    with pytest.raises(ValueError, match=message):
        call(images)
