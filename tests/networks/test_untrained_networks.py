import pytest
import torch
from torch import nn

from calepin.networks import (
    ComplexPair,
    DeepDecoder,
    DeepImagePrior,
    Jacobian,
    LinearGenerator,
    TwoLayerGenerator,
    box_kernel,
    gaussian_kernel,
    triangular_kernel,
)
from calepin.networks.deep_decoder import layer_sizes
from calepin.testing import check_operator

DOUBLE = torch.zeros(0, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_decoder(**settings):
    return DeepDecoder((9, 11), channels=4, depth=2, in_size=3, **settings)


NETWORKS = {
    "decoder": small_decoder,
    "decoder in 1-D": lambda: DeepDecoder((13,), channels=4, depth=2, in_size=3, output="none"),
    "decoder with a kernel": lambda: small_decoder(upsampling=triangular_kernel(3)),
    "decoder without normalisation": lambda: small_decoder(normalisation=False, output="none"),
    "decoder of torch alone": lambda: small_decoder(compiled=False),
    "image prior": lambda: DeepImagePrior((16, 20), channels=4, depth=2, input_channels=3),
    "image prior without skips": lambda: DeepImagePrior((8, 12), channels=4, depth=1, skip_channels=0),
    "two layers": lambda: TwoLayerGenerator(12, channels=6, kernel=triangular_kernel(5)),
    "two layers in 2-D": lambda: TwoLayerGenerator((6, 8), channels=4, kernel=box_kernel(3, ndim=2)),
    "linear": lambda: LinearGenerator(torch.randn(5, 8, generator=generator(), dtype=torch.float64)),
    "complex": lambda: ComplexPair(small_decoder(out_channels=2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_weights_is_a_batch_of_problems(name):
    network = NETWORKS[name]()
    weights = network.initial(3, like=DOUBLE, generator=generator())
    assert weights.shape == (3, network.n_parameters)
    weights = weights + 0.1
    together = network(weights)
    assert together.shape == (3, *network.out_shape)
    assert together.is_complex() == network.is_complex
    torch.testing.assert_close(torch.cat([network(w[None]) for w in weights]), together)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "complex"])
def test_gradients_are_those_of_finite_differences(name):
    network = NETWORKS[name]()
    weights = network.initial(2, like=DOUBLE, generator=generator(1)).requires_grad_()
    direction = torch.randn(weights.shape, dtype=torch.float64, generator=generator(2))
    image = torch.randn((2, *network.out_shape), dtype=torch.float64, generator=generator(3))
    (gradient,) = torch.autograd.grad((network(weights) * image).sum(), weights)
    step = 1e-6
    ahead, behind = (
        (network(weights.detach() + s * direction) * image).flatten(1).sum(1) for s in (step, -step)
    )
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(1), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "complex"])
def test_the_jacobian_is_an_operator(name):
    network = NETWORKS[name]()
    weights = network.initial(1, like=DOUBLE, generator=generator())[0]
    jacobian = Jacobian(network, weights)
    move = torch.randn(1, network.n_parameters, dtype=torch.float64, generator=generator(5))
    step = 1e-6
    difference = (network(weights + step * move) - network(weights - step * move)) / (2 * step)
    torch.testing.assert_close(jacobian(move), difference, rtol=1e-5, atol=1e-7)


def test_jacobians_conform():
    network = NETWORKS["two layers"]()
    check_operator(Jacobian(network, network.initial(1, like=DOUBLE, generator=generator())[0]))


def test_the_decoder_is_that_of_the_authors():
    decoder = DeepDecoder((20, 24), channels=5, depth=3, in_size=(4, 6))
    layers = []
    for size in layer_sizes((4, 6), (20, 24), 3)[1:]:
        layers += [
            nn.Conv2d(5, 5, 1, bias=False),
            nn.Upsample(size=size, mode="bilinear", align_corners=False),
            nn.ReLU(),
            nn.BatchNorm2d(5),
        ]
    reference = nn.Sequential(*layers, nn.Conv2d(5, 1, 1, bias=False), nn.Sigmoid()).double()
    parameters = torch.cat([p.detach().flatten() for p in reference.parameters()])
    parameters += 0.1 * torch.randn(parameters.shape, dtype=torch.float64, generator=generator())
    nn.utils.vector_to_parameters(parameters, reference.parameters())
    expected = reference(decoder.input[None].double())
    torch.testing.assert_close(decoder(parameters[None]), expected)
    torch.testing.assert_close(decoder.plain()(parameters[None]), expected)


def test_sizes_and_count_are_those_of_the_authors():
    decoder = DeepDecoder((256, 256))
    assert [size[0] for size in decoder.sizes] == [16, 28, 49, 85, 148, 256]
    assert decoder.n_parameters == 330_496


def test_second_derivatives_need_a_decoder_without_compiled_kernels():
    weights = small_decoder().initial(1, like=torch.zeros(1, dtype=torch.float64))
    for network in (small_decoder(), small_decoder(compiled=False)):
        w = weights.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(w).sum(), w, create_graph=True)
        if network.compiled:
            with pytest.raises(RuntimeError, match="second derivatives need compiled=False"):
                gradient.square().sum().backward()
        else:
            gradient.square().sum().backward()
            assert w.grad.norm() > 0


def test_compiled_kernels_do_not_depend_on_threads(with_threads, monkeypatch):
    monkeypatch.setattr("calepin.networks._upsampling._BLOCK_ENTRIES", 100)
    decoder = small_decoder()
    weights = decoder.initial(2, like=DOUBLE.float(), generator=generator())
    one, two = (with_threads(n, lambda: decoder(weights)) for n in (1, 2))
    assert torch.equal(one, two)


def test_the_two_layer_generator_is_its_formula():
    network = TwoLayerGenerator(10, channels=4, kernel=triangular_kernel(3))
    c = network.initial(1, like=DOUBLE, generator=generator())
    coefficients = c.view(4, 10)
    U = sum(
        value * torch.eye(10, dtype=torch.float64).roll(shift, 1)
        for value, shift in ((0.25, -1), (0.5, 0), (0.25, 1))
    )
    v = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64) / 2
    torch.testing.assert_close(network(c)[0], torch.relu(U @ coefficients.T) @ v)


@pytest.mark.parametrize("kernel", [triangular_kernel(15), box_kernel(7), gaussian_kernel(1.5)])
def test_kernels_are_symmetric_with_unit_sum(kernel):
    assert float(kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernel, kernel.flip(0))
    assert (kernel > 0).all()


def test_the_norm_of_the_jacobian_is_bounded():
    network = NETWORKS["two layers"]()
    weights = network.initial(1, like=DOUBLE, generator=generator())[0]
    assert Jacobian(network, weights).norm_squared() <= network.jacobian_norm_squared() * (1 + 1e-9)


def test_complex_channels_are_real_then_imaginary():
    network = small_decoder(out_channels=4)
    weights = network.initial(1, like=DOUBLE, generator=generator())
    real = network(weights)
    torch.testing.assert_close(ComplexPair(network)(weights), torch.complex(real[:, :2], real[:, 2:]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepDecoder((4, 4, 4)), "out_size: expected one or two axes"),
        (lambda: DeepDecoder((8, 8), in_size=9), "in_size: expected 1 to"),
        (lambda: DeepDecoder((32, 32), channels=0), "channels: expected at least 1, got 0"),
        (lambda: DeepDecoder((32, 32), output="tanh"), "output: expected one of 'sigmoid', 'none'"),
        (
            lambda: DeepDecoder((32, 32), upsampling=torch.ones(4)),
            "upsampling: expected 'linear'",
        ),
        (lambda: DeepImagePrior((8, 64), depth=4), "depth: expected a positive number of levels"),
        (lambda: DeepImagePrior((64, 64), kernel=4), "kernel: expected an odd number"),
        (lambda: TwoLayerGenerator(8, kernel=box_kernel(3), channels=5), "channels: expected an even number"),
        (lambda: TwoLayerGenerator(8, kernel=box_kernel(9)), "kernel: expected 1 axes of at most"),
        (lambda: triangular_kernel(4), "width: expected an odd number"),
        (lambda: gaussian_kernel(0.0), "sigma: expected a positive number"),
        (lambda: ComplexPair(small_decoder()), "network: expected signals of an even number of channels"),
        (lambda: LinearGenerator(torch.ones(3)), "matrix: expected shape"),
        (lambda: small_decoder()(torch.ones(1, 3)), "weights: DeepDecoder expected shape"),
        (lambda: Jacobian(small_decoder(), torch.ones(3)), "weights: expected shape"),
    ],
)
def test_what_cannot_be_built_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_kernel_in_half_precision_is_that_in_single_precision(dtype):
    kernel = gaussian_kernel(1.0).to(dtype)
    half, single = (TwoLayerGenerator(32, kernel=k, channels=4) for k in (kernel, kernel.float()))
    assert torch.equal(half.spectrum, single.spectrum)
