import pytest
import torch

from calepin.operators import (
    MultiCoilMRI,
    Sensitivities,
    calibration_size,
    centred_fft,
    column_mask,
    espirit_maps,
    kspace_noise,
    variable_density_mask,
)
from calepin.testing import check_operator

SIZE = (48, 40)


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def coils_at(angles, size, reach=1.0):
    """Return sensitivities (n_coils, h, w) that fade away from coils on a circle; pixels reach to `reach`."""
    rows, columns = (torch.linspace(-reach, reach, n + 1, dtype=torch.float64)[:-1] for n in size)
    r, c = torch.sin(angles)[:, None, None], torch.cos(angles)[:, None, None]
    fading = torch.exp(-0.7 * ((rows[:, None] - 1.3 * r).square() + (columns - 1.3 * c).square()))
    return torch.polar(fading, angles[:, None, None] + 0.5 * r * columns + 0.5 * c * rows[:, None])


def scanned(size=SIZE, n_coils=6):
    """Return sensitivities, an image inside the field of view, and noisy k-space of all coils."""
    angles = torch.arange(n_coils, dtype=torch.float64) * (2 * torch.pi / n_coils)
    maps = coils_at(angles, size)
    rows, columns = (torch.linspace(-1, 1, n + 1, dtype=torch.float64)[:-1] for n in size)
    radius = (rows[:, None] / 0.7).square() + (columns / 0.6).square()
    image = (radius < 1) * (1 + 0.3 * torch.cos(9 * rows[:, None]) * torch.cos(7 * columns))
    kspace = centred_fft(maps * image) + 1e-3 * randn(n_coils, *size)
    return maps, image, kspace, radius < 0.8


def test_sensitivities_conform_alone_and_before_a_scanner():
    maps = Sensitivities(randn(2, 3, 6, 5))
    check_operator(maps, dtype=torch.complex128)
    mask = variable_density_mask((6, 5), acceleration=2, n_center=2, seed=1)
    check_operator(MultiCoilMRI(mask, n_coils=3) @ maps, dtype=torch.complex128)


def test_the_norm_of_sensitivities_is_that_of_their_largest_pixel():
    maps = randn(2, 3, 4, 5)
    each = torch.linalg.matrix_norm(maps.permute(2, 3, 1, 0), 2)
    assert Sensitivities(maps).norm_squared() == pytest.approx(float(each.max()) ** 2)


@pytest.mark.parametrize("pattern", ["points", "columns"])
def test_known_sensitivities_are_found(pattern):
    maps, _, kspace, inside = scanned()
    if pattern == "points":
        mask = variable_density_mask(SIZE, acceleration=2, n_center=20, seed=0)
    else:
        mask = column_mask(SIZE, acceleration=2, n_center=14, seed=0)
    found = espirit_maps(kspace * mask, mask, n_sets=1, kernel=6)[0]
    agreement = (found.conj() * maps).sum(0).abs() / torch.linalg.vector_norm(maps, dim=0)
    assert float(agreement[inside].min()) > 0.97
    assert float(agreement[inside].median()) > 0.995


def test_an_object_that_wraps_around_needs_two_sets():
    size = (48, 48)
    angles = torch.arange(6, dtype=torch.float64) * (torch.pi / 3)
    wide = coils_at(angles, size, reach=1.0)
    rows, columns = (torch.linspace(-1, 1, n + 1, dtype=torch.float64)[:-1] for n in size)
    image = ((rows[:, None] / 0.8).square() + (columns / 0.8).square() < 1).to(torch.complex128)
    # every second column of k-space: the field of view is half as wide, and its halves overlap
    kspace = centred_fft(wide * image)[..., ::2] + 1e-4 * randn(6, 48, 24)
    mask = torch.zeros(48, 24, dtype=torch.bool)
    mask[12:36, 4:20] = True
    maps = espirit_maps(kspace, mask, n_sets=2, kernel=6)
    coils = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=(-2, -1))), dim=(-2, -1))

    def missed(sets):
        basis = torch.linalg.qr(maps[:sets].permute(2, 3, 1, 0)).Q
        pixels = coils.permute(1, 2, 0)[..., None]
        rest = pixels - basis @ (basis.mH @ pixels)
        return float(torch.linalg.vector_norm(rest) / torch.linalg.vector_norm(pixels))

    assert missed(2) < 0.05
    assert missed(1) > 3 * missed(2)


def test_maps_have_a_norm_of_at_most_one_and_the_image_is_real():
    maps, image, kspace, inside = scanned()
    mask = variable_density_mask(SIZE, acceleration=2, n_center=20, seed=0)
    found = espirit_maps(kspace.to(torch.complex64), mask)
    assert (found.dtype, found.shape) == (torch.complex64, (2, 6, *SIZE))
    assert Sensitivities(found).norm_squared() <= 1 + 1e-4
    combined = (found[0].conj() * maps * image).sum(0)[inside]
    assert float(combined.real.min()) > 0.9 * float(combined.abs().min())


def test_what_was_not_acquired_has_no_effect():
    _, _, kspace, _ = scanned()
    mask = column_mask(SIZE, acceleration=3, n_center=12, seed=0)
    assert torch.equal(espirit_maps(kspace, mask), espirit_maps(kspace * mask, mask))


def test_the_noise_is_told_from_the_edge_of_kspace():
    _, _, kspace, _ = scanned()
    mask = variable_density_mask(SIZE, acceleration=2, n_center=12, seed=0)
    noise = 0.3 * randn(*kspace.shape, seed=1)
    # real and imaginary part have half of the variance each
    assert kspace_noise(kspace + noise, mask) == pytest.approx(0.3 / 2**0.5, rel=0.15)


def test_the_calibration_region_is_the_largest_full_rectangle():
    mask = torch.zeros(10, 12, dtype=torch.bool)
    assert calibration_size(mask) == (0, 0)
    mask[:, 5:8] = True
    assert calibration_size(mask) == (10, 3)
    mask[3:8, 2:11] = True
    assert calibration_size(mask) == (5, 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k, m: espirit_maps(k, m[:5]), r"kspace: expected a complex tensor of shape \(n_coils, 5, 40"),
        (lambda k, m: espirit_maps(k.real, m), "kspace: expected a complex tensor"),
        (lambda k, m: espirit_maps(k * torch.nan, m), "kspace: expected finite samples"),
        (lambda k, m: espirit_maps(k, m.int()), "acquired: expected a boolean tensor"),
        (lambda k, m: espirit_maps(k, m & False), "acquired: expected at least one sample"),
        (lambda k, m: espirit_maps(k, m, n_sets=7), "n_sets: expected an integer from 1 to 6, got 7"),
        (lambda k, m: espirit_maps(k, m, kernel=1), "kernel: expected an integer of at least 2"),
        (lambda k, m: espirit_maps(k, m, noise=-1.0), "noise: expected"),
        (lambda k, m: espirit_maps(k, m, noise=1e6), "kspace: expected signal in its middle"),
        (lambda k, m: espirit_maps(k, torch.eye(48, 40) > 0), "acquired: expected at least 6 x 6 samples"),
        (lambda k, m: Sensitivities(k), r"maps: expected a complex tensor of shape \(n_sets"),
        (lambda k, m: Sensitivities(k[None] * torch.inf), "maps: expected finite values"),
        (lambda k, m: calibration_size(m[0]), "acquired: expected a boolean tensor"),
        (lambda k, m: kspace_noise(k[0], m), "kspace: expected a complex tensor"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_one_line(call, message):
    _, _, kspace, _ = scanned()
    mask = column_mask(SIZE, acceleration=2, n_center=14, seed=0)
    with pytest.raises(ValueError, match=message) as caught:
        call(kspace, mask)
    assert "\n" not in str(caught.value)
