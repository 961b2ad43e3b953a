import numpy as np
import pytest

from cnn.predict.common_axes import fit_common_axes

N, KNOWN = 4000, 3


def networks(rng, count=4, channels=10, own=0.3):
    """Return what is common (n, 3), and mixtures of it with what each network alone makes up."""
    common = rng.normal(size=(N, KNOWN)) * [3, 2, 1]
    features = []
    for _ in range(count):
        latent = np.concatenate([common, own * rng.normal(size=(N, channels - KNOWN))], axis=1)
        features.append((latent @ rng.normal(size=(channels, channels)) + rng.normal(size=channels)).astype(np.float32))
    return common, features


def components(axes, features):
    return [values @ own.weight.T + own.bias for own, values in zip(axes, features, strict=True)]


def test_components_mean_the_same_in_networks_whose_axes_are_mixed():
    rng = np.random.default_rng(0)
    _, features = networks(rng)
    fold = rng.integers(0, 4, N)
    axes, agreement = fit_common_axes(features, [fold != own for own in range(4)], KNOWN)
    first, *others = components(axes, features)
    for other in others:
        for number in range(KNOWN):
            assert np.corrcoef(first[:, number], other[:, number])[0, 1] > 0.99
    assert agreement == pytest.approx(1, abs=0.02)


def test_channels_themselves_do_not_agree_before():
    _, features = networks(np.random.default_rng(0))
    alike = [abs(np.corrcoef(features[0][:, number], features[1][:, number])[0, 1]) for number in range(10)]
    assert np.mean(alike) < 0.7


def test_what_one_network_alone_knows_comes_last_and_agreement_says_so():
    rng = np.random.default_rng(1)
    _, features = networks(rng, own=2.0)
    _, agreement = fit_common_axes(features, [np.ones(N, bool)] * 4, 6)
    assert (np.diff(agreement) <= 1e-9).all()
    assert (agreement[:KNOWN] > 0.95).all()
    assert (agreement[KNOWN:] < 0.4).all()


def test_common_knowledge_can_be_read_from_the_components():
    rng = np.random.default_rng(2)
    common, features = networks(rng)
    axes, _ = fit_common_axes(features, [np.ones(N, bool)] * 4, KNOWN)
    design = np.column_stack([components(axes, features)[0], np.ones(N)])
    left = common - design @ np.linalg.lstsq(design, common, rcond=None)[0]
    assert (left.std(axis=0) / common.std(axis=0) < 0.25).all()


def test_a_network_is_never_fitted_on_pixels_that_it_has_not_learned_from():
    rng = np.random.default_rng(3)
    _, features = networks(rng)
    fold = rng.integers(0, 4, N)
    learned = [fold != own for own in range(4)]
    axes, _ = fit_common_axes(features, learned, KNOWN)
    for own, seen, values in zip(axes, learned, features, strict=True):
        inside = (values @ own.weight.T + own.bias)[seen]
        assert inside.mean(axis=0) == pytest.approx(0, abs=1e-3)
        assert inside.std(axis=0) == pytest.approx(1, abs=1e-3)


def test_channels_that_are_always_zero_are_harmless():
    rng = np.random.default_rng(4)
    _, features = networks(rng)
    dead = [np.concatenate([values, np.zeros((N, 2), np.float32)], axis=1) for values in features]
    axes, agreement = fit_common_axes(dead, [np.ones(N, bool)] * 4, 5)
    assert np.isfinite(agreement).all()
    assert all(np.isfinite(own.weight).all() and np.isfinite(own.bias).all() for own in axes)
