import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from calepin.imaging import distributions as ours

X = np.linspace(-7, 7, 57)
COUNTS, MEANS = np.meshgrid(np.arange(-2, 60), [0.0, 0.01, 0.7, 4.0, 33.3, 150.0])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ours.normal_density(X), stats.norm.pdf(X)),
        (ours.normal_below(X), stats.norm.cdf(X)),
        (ours.normal_above(X), stats.norm.sf(X)),
        (ours.gamma_quantile(0.99, 12.5, 0.3), stats.gamma.ppf(0.99, 12.5, scale=0.3)),
        (ours.chi2_quantile([0.01, 0.5, 0.9], 1), stats.chi2.ppf([0.01, 0.5, 0.9], 1)),
        (ours.poisson_below(COUNTS + 0.5, MEANS), stats.poisson.cdf(COUNTS + 0.5, MEANS)),
        (ours.poisson_above(COUNTS, MEANS), stats.poisson.sf(COUNTS, MEANS)),
        (ours.poisson_probability(COUNTS.clip(0), MEANS), stats.poisson.pmf(COUNTS.clip(0), MEANS)),
    ],
)
def test_they_are_those_of_scipy(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)


def test_denoising_does_not_load_scipy_stats():
    code = "import sys, calepin.imaging.denoising; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
