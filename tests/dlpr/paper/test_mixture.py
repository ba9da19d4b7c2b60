"""Discretised mixtures: against brute force, sums, bins of tau, the three families."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dlpr.errors import CorruptError  # noqa: E402
from dlpr.paper.coder import Interval, Reader, Writer, adaptive_interval  # noqa: E402
from dlpr.paper.mixture import MixtureParameters, last_symbol, log_mass, quantise  # noqa: E402
from dlpr.paper.profile import Family  # noqa: E402

FAMILIES = list(Family)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads that wait for each other on a busy machine cost ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_parameters(family, n=4, k=5, seed=0):
    torch.manual_seed(seed)
    raw = torch.randn(n, 10 * k)
    raw[:, : 3 * k] *= 0.2
    raw[:, 3 * k : 6 * k] -= 3
    return raw, MixtureParameters.of(raw, family)


def plain_cdf(family, t):
    if family is Family.LOGISTIC:
        return 1 / (1 + math.exp(-t)) if t > -700 else 0.0
    if family is Family.GAUSSIAN:
        return 0.5 * math.erfc(-t / 2**0.5)
    return 0.5 * math.exp(t) if t < 0 else 1 - 0.5 * math.exp(-t)


def brute_force(raw, family, r, channel, value, tau):
    """The PMF of the paper, written out in Python floats."""
    k = len(raw) // 10
    part = [raw[i * k : i * k + k] for i in range(10)]
    weight = [math.exp(v - max(part[9])) for v in part[9]]
    total = 0.0
    for c in range(k):
        b = [math.tanh(part[6 + i][c]) for i in range(3)]
        shift = (0.0, b[0] * r[0], b[1] * r[0] + b[2] * r[1])[channel]
        location = part[channel][c] * 127.5 + shift
        scale = math.exp(max(part[3 + channel][c], -7)) * 127.5
        last = (255 + tau) // (2 * tau + 1) * (2 * tau + 1)
        upper = 1.0 if value >= last else plain_cdf(family, (value + tau + 0.5 - location) / scale)
        lower = 0.0 if value <= -last else plain_cdf(family, (value - tau - 0.5 - location) / scale)
        total += weight[c] / sum(weight) * (upper - lower)
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tau", [0, 1, 3, 127, 255])
def test_pmf_is_brute_force_and_sums_to_one(family, tau):
    raw, parameters = some_parameters(family)
    last = last_symbol(tau)
    values = (torch.arange(2 * last + 1.0) - last) * (2 * tau + 1)
    previous = quantise(torch.tensor([[3.0, -8, 1], [0, 0, 0], [200, -255, 4], [-20, 17, 255]]), tau)
    for channel in range(3):
        pmf = parameters.pmf(channel, previous, tau)
        assert pmf.shape == (4, 2 * last + 1)
        assert (pmf >= -1e-6).all()
        torch.testing.assert_close(pmf.sum(1), torch.ones(4), atol=2e-6, rtol=0)
        for pixel in range(4):
            for at in {0, last, last // 2, 2 * last}:
                expected = brute_force(
                    raw[pixel].tolist(), family, previous[pixel].tolist(), channel, float(values[at]), tau
                )
                assert float(pmf[pixel, at]) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tau", [0, 1, 3])
def test_log_likelihood_is_the_log_of_the_pmf(family, tau):
    raw, parameters = some_parameters(family, n=1)
    last = last_symbol(tau)
    values = (torch.arange(2 * last + 1.0) - last) * (2 * tau + 1)
    previous = torch.tensor([[12.0, -3.0, 6.0]]) * (2 * tau + 1)
    many = MixtureParameters.of(raw.expand(len(values), -1), family)
    log = many.log_likelihood(values[:, None].expand(-1, 3), tau, previous.expand(len(values), -1))
    for channel in range(3):
        torch.testing.assert_close(
            log[:, channel].exp(), parameters.pmf(channel, previous, tau)[0], atol=2e-6, rtol=1e-3
        )


@pytest.mark.parametrize("tau", [1, 2, 5])
def test_a_bin_of_tau_is_the_sum_of_its_residuals(tau):
    _, parameters = some_parameters(Family.LOGISTIC)
    previous, every = torch.zeros(4, 3), torch.arange(-255.0, 256)
    last = last_symbol(tau)
    symbol = (quantise(every, tau) / (2 * tau + 1)).round().long() + last
    fine, coarse = parameters.pmf(1, previous, 0), parameters.pmf(1, previous, tau)
    torch.testing.assert_close(torch.zeros(4, 2 * last + 1).index_add_(1, symbol, fine), coarse, atol=3e-6, rtol=0)


@pytest.mark.parametrize("tau", [0, 1, 2, 3, 5, 127, 128, 254, 255])
def test_quantised_residuals_are_near(tau):
    r = torch.arange(-255.0, 256)
    r_hat = quantise(r, tau)
    assert (r - r_hat).abs().max() <= tau
    assert torch.equal(r_hat / (2 * tau + 1), (r_hat / (2 * tau + 1)).round())
    assert r_hat.abs().max() == last_symbol(tau) * (2 * tau + 1)
    assert torch.equal(quantise(-r, tau), -r_hat)


@pytest.mark.parametrize("family", FAMILIES)
def test_far_tails_have_exact_logs_and_gradients(family):
    lower = torch.tensor([-60.0, 5.0, 59.0, -math.inf, 70.0, -0.5, 1e-3], requires_grad=True)
    upper = torch.tensor([-59.0, 6.0, 60.0, -70.0, math.inf, 0.5, 1.1e-3], requires_grad=True)
    log = log_mass(family, lower, upper)
    log.sum().backward()
    assert log.isfinite().all()
    assert upper.grad[:4].isfinite().all()
    assert lower.grad[4:].isfinite().all()
    torch.testing.assert_close(log[0], log[2])
    torch.testing.assert_close(log[3], log[4])
    assert upper.grad[0] > 0.9
    assert lower.grad[2] < -0.9
    assert log[5].exp().item() == pytest.approx(2 * plain_cdf(family, 0.5) - 1, rel=1e-5)


def test_channels_see_those_before_them_only():
    _, parameters = some_parameters(Family.LOGISTIC)
    a, b = torch.zeros(4, 3), torch.tensor([[0.0, 0.0, 90.0]]).expand(4, 3)
    assert torch.equal(parameters.locations(a), parameters.locations(b))
    b = torch.tensor([[0.0, 50.0, 0.0]]).expand(4, 3)
    assert torch.equal(parameters.locations(a)[:, :2], parameters.locations(b)[:, :2])
    assert not torch.equal(parameters.locations(a)[:, 2], parameters.locations(b)[:, 2])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("centre", "m", "tau"), [(0, 5, 0), (-200, 60, 0), (0, 255, 0), (30, 9, 1), (0, 1, 3), (9, 9, 255)]
)
def test_symbols_of_an_interval_round_trip(family, centre, m, tau):
    _, parameters = some_parameters(family, n=50)
    interval = Interval(centre, m, tau, torch.device("cpu"))
    frequencies = interval.frequencies(parameters, 2, torch.zeros(50, 3))
    assert frequencies.shape == (50, interval.symbols + 1)
    assert (frequencies[:, 0] == 0).all()
    assert (frequencies[:, -1] == 65536).all()
    assert (np.diff(frequencies, axis=1) >= 1).all()
    known = np.random.default_rng(0).integers(-interval.end, interval.end + 1, 50)
    writer = Writer()
    assert (interval.code(writer, frequencies, known) == known).all()
    reader = Reader(writer.lane.finish())
    assert (interval.code(reader, frequencies, None) == known).all()
    reader.lane.finish()


def test_every_interval_that_an_encoder_makes_holds_symbols():
    for tau in (*range(12), 63, 64, 126, 127, 128, 200, 255):
        for centre in range(-255, 256, 3):
            for m in (1, 2, 7, 100, 255):
                interval = Interval(centre, m, tau, torch.device("cpu"))
                assert -interval.end <= interval.low <= interval.high <= interval.end
    with pytest.raises(CorruptError):
        Interval(255, -9, 0, torch.device("cpu"))


def test_adaptive_interval():
    assert adaptive_interval(np.array([[4, 8]]), 3) == (6, 6)
    assert adaptive_interval(np.array([7, 7]), 3) == (7, 1)
    assert adaptive_interval(np.array([-255, 255]), 3) == (0, 255)
