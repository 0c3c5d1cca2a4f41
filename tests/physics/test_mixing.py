import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.physics import mixing


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


# the rate of diffusion, (5.11)-(5.12)


def test_rate_check_values():
    np.testing.assert_allclose(mixing.G(1.0, 1.0), 1 / (2 * 45 * 2**1.5), rtol=1e-14)
    np.testing.assert_allclose(mixing.G(1 / 3, 7.0), 0.25 * 7 / 45 * (7 / 8) ** 1.5, rtol=1e-14)
    np.testing.assert_allclose(mixing.diffusion_rate(3.0, 1.0, 1.0), 3.0 * mixing.G(1 / 3, 1.0), rtol=1e-14)
    ratio, h = np.geomspace(1e-6, 1e6, 13)[:, None], np.geomspace(1e-3, 1e3, 7)
    np.testing.assert_allclose(mixing.diffusion_rate(2.0, 2.0 * ratio, h), 2.0 * mixing.G(ratio, h), rtol=1e-13)
    np.testing.assert_allclose(mixing.G(np.inf, h), h / 45 * (h / (1 + h)) ** 1.5, rtol=1e-14)


def test_rate_log_slopes():
    slope = jax.jit(jax.vmap(jax.grad(lambda x: jnp.log(mixing.G(0.2, jnp.exp(x))))))
    h = np.array([1e-3, 1e-2, 1e2, 1e4])
    np.testing.assert_allclose(slope(np.log(h)), 1.0 + 1.5 / (1.0 + h), rtol=1e-12)
    assert abs(slope(np.log(h))[0] - 2.5) < 2e-3 and abs(slope(np.log(h))[3] - 1.0) < 2e-4
    in_ratio = jax.vmap(jax.grad(lambda x: jnp.log(mixing.G(jnp.exp(x), 1.0))))(np.log([1e-6, 1.0, 1e6]))
    np.testing.assert_allclose(in_ratio, [1 / (1 + 1e-6), 0.5, 1 / (1 + 1e6)], rtol=1e-9)


def test_rate_gradients():
    gradient = jax.jit(jax.vmap(jax.grad(mixing.diffusion_rate, argnums=(0, 1, 2))))
    nu_par, nu_xi = np.array([0.0, 1.0, 0.0, 2.0, 1e-12]), np.array([0.0, 0.0, 1.0, 0.7, 3.0])
    h = np.array([1.0, 0.5, 2.0, 7.0, 1e-12])
    assert finite(gradient(nu_par, nu_xi, h))
    d_par, d_xi, d_h = gradient(nu_par, nu_xi, h)
    shape = h / 45 * (h / (1 + h)) ** 1.5
    total = np.where(nu_par + nu_xi > 0, nu_par + nu_xi, 1.0)
    np.testing.assert_allclose(d_par, (nu_xi / total) ** 2 * shape, rtol=1e-13)
    np.testing.assert_allclose(d_xi, (nu_par / total) ** 2 * shape, rtol=1e-13)
    forward = jax.jit(jax.vmap(jax.jacfwd(mixing.diffusion_rate, argnums=(0, 1, 2))))(nu_par, nu_xi, h)
    np.testing.assert_allclose(forward, (d_par, d_xi, d_h), rtol=1e-13)
    step = 1e-6
    difference = (mixing.diffusion_rate(2.0, 0.7, 7 + step) - mixing.diffusion_rate(2.0, 0.7, 7 - step)) / (2 * step)
    np.testing.assert_allclose(d_h[3], difference, rtol=1e-8)
    edges = jax.vmap(jax.grad(mixing.G, argnums=(0, 1)))(np.array([0.0, 1.0, np.inf, 1e300]), np.array([1.0, 1e-300, 1.0, 1e300]))
    assert finite(edges) and edges[0][0] == mixing.G(np.inf, 1.0) and edges[0][2] == 0.0


def test_rate_single_precision():
    nu_par, nu_xi, h = np.float32(2.0), np.float32(0.3), np.array([1e-3, 1.0, 7.0], np.float32)
    for value, exact in ((mixing.diffusion_rate(nu_par, nu_xi, h), mixing.diffusion_rate(2.0, 0.3, h.astype(float))),
                         (mixing.G(nu_xi, h), mixing.G(0.3, h.astype(float)))):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, exact, rtol=3e-6)


def test_rate_bad_input():
    for h in (0.0, -0.5, np.nan, np.inf, np.array([1.0, 0.0])):
        with pytest.raises(ValueError, match=r"mixing h = .* above 0 and finite"):
            mixing.G(1.0, h)
        with pytest.raises(ValueError, match=r"mixing h = "):
            mixing.diffusion_rate(1.0, 1.0, h)
    with pytest.raises(ValueError, match=r"mixing ratio = -0.1: it must be at least 0"):
        mixing.G(-0.1, 1.0)
    with pytest.raises(ValueError, match=r"mixing nu_par = -1: it must be a rate"):
        mixing.diffusion_rate(-1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"mixing nu_xi = inf: it must be a rate"):
        mixing.diffusion_rate(1.0, np.inf, 1.0)
    assert finite(jax.jit(mixing.diffusion_rate)(-1.0, 1.0, -1.0))         # traced: counted as 0
