"""Points of the meridian, lines of sight and volumes against closed forms and brute force."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt import foliated
from jaxbelt.grid import Axis
from jaxbelt.physics import foliated_maps as maps
from jaxbelt.physics import foliated_moments as fm


def grid(cells=(24, 6, 30), L=(1.05, 2.0), **kw):
    return foliated.grid(L=L, cells=cells, mu=Axis.nodes("mu", [1.0]), v_max=0.5, **kw)


def on_grid(g, function):
    """A function of (psi, chi) at the centres, NaN below the surface."""
    psi, chi = g["psi"].centers[:, None], g["chi"].centers
    return np.where(foliated.live(g), function(psi, chi), np.nan)


def psi_chi(r, z):
    radius = np.hypot(r, z)
    return r**2 / radius**3, z / radius**3


# ---- points

def test_linear_functions_are_exact_and_the_outside_is_nan():
    g = grid()
    values = on_grid(g, lambda psi, chi: 2.0 - 3.0 * psi + 0.5 * chi)
    r, z, got = maps.meridian(g, values, points=120)
    assert got.shape == (240, 120)
    psi, chi = psi_chi(np.maximum(r, 1e-9)[None, :], z[:, None])
    radius = np.hypot(r[None, :], z[:, None])
    inside = (psi >= 0.5) & (psi <= 1 / 1.05) & (radius >= 1)
    np.testing.assert_array_equal(np.isfinite(got), inside)
    centres = g["psi"].centers
    # away from the outermost half cells
    top = np.max(np.where(foliated.live(g), g["chi"].centers, 0), axis=1)
    deep = inside & (psi > centres[0]) & (psi < centres[-1]) & (np.abs(chi) < np.interp(psi, centres - 0.02, top) - 0.03)
    assert deep.mean() > 0.1
    np.testing.assert_allclose(got[deep], (2.0 - 3.0 * psi + 0.5 * chi)[deep], atol=1e-13)
    assert np.nanmax(got) <= np.nanmax(values) and np.nanmin(got) >= np.nanmin(values)
    np.testing.assert_array_equal(np.isnan(maps.at(g, values, [0.0, 0.5, 1.2], [0.0, 0.3, 0.0])), [True, True, False])


def test_mirror_image_batches_theta_and_derivatives():
    g = grid((8, 6, 5), theta=16)
    theta = g["theta"].centers
    one = on_grid(g, lambda psi, chi: psi + chi**2)
    values = np.stack([one[..., None] * (2 + np.cos(theta)), one[..., None] * np.ones(16)])
    up, down = maps.at(g, values, 1.3, [0.4, -0.4], 0.7).T
    np.testing.assert_allclose(up, down, rtol=1e-12)
    np.testing.assert_allclose(up[0] / up[1], 2 + np.cos(0.7), rtol=6e-3)
    # across 2 pi, and at a cell's own place
    np.testing.assert_allclose(maps.at(g, values, 1.3, 0.4, 2 * np.pi - 1e-9), maps.at(g, values, 1.3, 0.4, -1e-9), rtol=1e-12)
    np.testing.assert_allclose(maps.at(g, values, 1.3, 0.4, theta[3])[0] / up[1], 2 + np.cos(theta[3]), rtol=1e-12)
    plain = maps.at(g, one, jnp.array([[1.3, 1.5], [1.6, 1.7]]), 0.1)
    assert plain.shape == (2, 2)
    slope = jax.grad(lambda r: maps.at(g, one, r, 0.2))(1.43)
    h = 1e-5
    np.testing.assert_allclose(slope, (maps.at(g, one, 1.43 + h, 0.2) - maps.at(g, one, 1.43 - h, 0.2)) / (2 * h), rtol=1e-6)
    by_value = plain_jit(jax.grad(lambda v: maps.chords(g, v, 1.5, 0.1, 100) + maps.at(g, v, 1.4, 0.1)))(jnp.nan_to_num(one))
    assert np.all(np.isfinite(by_value)) and float(jnp.sum(by_value)) > 0


# ---- lines of sight

def test_length_of_lines_through_the_domain():
    """n = 1 between L = 1.05 and 2: at z = 0 two circles; lines along z and tilted ones by brute force."""
    g = grid()
    one = on_grid(g, lambda psi, chi: 1.0 + 0.0 * psi + 0.0 * chi)
    b = np.array([1.0, 1.02, 1.049, 1.2, 1.7, 1.95, 2.0, 2.5])
    exact = 2 * (np.sqrt(np.maximum(4 - b**2, 0)) - np.sqrt(np.maximum(1.05**2 - b**2, 0)))
    got = plain_jit(lambda b: maps.chords(g, one, b))(b)
    np.testing.assert_allclose(got, exact, atol=2e-3)
    np.testing.assert_allclose(got[3:6], exact[3:6], rtol=1e-4)
    fine = plain_jit(lambda b: maps.chords(g, one, b, points=4800))(b)
    assert np.max(np.abs(fine - exact)) < 0.15 * np.max(np.abs(got - exact))
    assert np.isnan(maps.chords(g, one, 0.99)) and np.isfinite(maps.chords(g, one, 0.9, 0.6))


def test_a_power_of_the_distance():
    """n = L^-2 and L^-4 along the tangent at b: the closed forms of Abel's integral, second order in the cells of psi."""
    b, R = np.array([1.1, 1.3, 1.6, 1.9]), 2.0
    y = np.sqrt(R**2 - b**2)
    exact = np.array([2 / b * np.arctan(y / b), (y / R**2 + np.arctan(y / b) / b) / b**2])
    errors = []
    for n in (15, 60):
        g = grid((6, 6, n))
        values = g["psi"].centers[:, None] ** np.array([2, 4])[:, None, None] * np.ones(6)
        errors.append(np.max(np.abs(np.asarray(maps.chords(g, values, b)) - exact), axis=1))
    assert np.all(errors[1] < 2e-3) and np.all(errors[0] / errors[1] > 4)


def test_any_line_against_brute_force():
    """Vertical and tilted lines, north-south asymmetric n: 50 000 points of the formula itself."""
    g = grid((64, 6, 60))
    n = lambda psi, chi: psi**2 * np.exp(-2 * chi**2 + chi)   # noqa: E731
    values = on_grid(g, n)
    origin = np.array([[1.4, 0.0, 0.0], [0.3, 0.0, 1.15], [0.0, 1.5, 0.2], [1.0, -0.5, 0.3]])
    direction = np.array([[0.0, 0.0, 2.0], [0.0, 3.0, 0.0], [1.0, 0.2, 0.5], [0.3, 1.0, -0.4]])
    got = plain_jit(lambda o, d: maps.chord(g, values, o, d))(origin, direction)
    s = (np.arange(50_000) + 0.5) / 50_000 * 5 - 2.5
    for k, (o, d) in enumerate(zip(origin, direction)):
        x = o[:, None] + d[:, None] / np.linalg.norm(d) * s
        psi, chi = psi_chi(np.hypot(x[0], x[1]), x[2])
        radius = np.linalg.norm(x, axis=0)
        assert radius.min() > 1
        exact = np.sum(np.where((psi > 0.5) & (psi < 1 / 1.05), n(psi, chi), 0.0)) * 1e-4
        np.testing.assert_allclose(got[k], exact, rtol=3e-3)


def test_around_the_axis():
    """n = 1 + cos theta seen along y at x = +b and -b, theta from the x axis: 2 y + 2 b asinh(y/b), and with minus."""
    g = grid((6, 6, 20), theta=64)
    n = np.ones((20, 6, 1)) + np.cos(g["theta"].centers)
    b = 1.5
    y = np.sqrt(4 - b**2)
    both = plain_jit(lambda b: maps.chords(g, n, b))(np.array([b, -b]))
    np.testing.assert_allclose(both, [2 * y + 2 * b * np.arcsinh(y / b), 2 * y - 2 * b * np.arcsinh(y / b)], atol=3e-3)
    # theta turns against the right-hand rule about z: sin theta is positive at y < 0
    n = np.ones((20, 6, 1)) * (np.sin(g["theta"].centers) > 0)
    ends = maps.at(g, n, 1.5, 0.0, np.array([0.5, -0.5]))
    np.testing.assert_array_equal(ends, [1.0, 0.0])
    seen = maps.chord(g, n, [[0.0, -1.5, 0.0], [0.0, 1.5, 0.0]], [1.0, 0.0, 0.0])
    assert seen[0] > 2.4 and seen[1] < 1e-12


def test_volume_in_space_is_the_content():
    """int n 2 pi r dr dz over the (r, z) plane is the content of the grid: dx dy dz = dchi dpsi dtheta/B^2."""
    g = foliated.grid(L=(1.1, 2.0), cells=(48, 24, 40), mu=4)
    f = foliated.spread(g, foliated.live(g)) * np.exp(-0.5 * (g.centers("p") / 4) ** 2 - ((g.centers("psi") - 0.7) / 0.08) ** 2) \
        * np.ones(g.shape)
    r, z, n = maps.meridian(g, fm.local(g, f).n, points=400)
    total = np.nansum(n * 2 * np.pi * r) * (r[1] - r[0]) * (z[1] - z[0])
    np.testing.assert_allclose(total, g.content(f), rtol=4e-3)


# ---- xarray, errors

def test_coordinates_for_xarray():
    xr = pytest.importorskip("xarray")
    g = grid((8, 6, 5))
    coords = {a.name: (a.name, a.centers) for a in g.axes}
    ds = xr.Dataset({"f": (g.names, np.ones(g.shape))}, coords)
    more = maps.add_coordinates(ds)
    at = foliated.geometry(g)
    np.testing.assert_allclose(more.l, at.l, rtol=1e-12)
    np.testing.assert_allclose(more.r**2 / (more.r**2 + more.z**2) ** 1.5, g["psi"].centers[:, None] * np.ones(8), rtol=1e-12)
    np.testing.assert_allclose(more.v_par[2], at.B[2][:, None] * g["p"].centers, rtol=1e-12)
    np.testing.assert_allclose(more.L * more.psi, 1.0)
    assert more.l.attrs["units"] == "R_p" and more.f.isel(psi=1).swap_dims(chi="l").dims == ("mu", "l", "p")
    with pytest.raises(ValueError, match="dataset: needs the coordinates psi, chi and p of a foliated solution, psi not among"):
        maps.add_coordinates(ds.drop_vars("psi"))


@pytest.mark.parametrize("call, message", [
    (lambda g: maps.at(g, np.ones((3, 4)), 1.5, 0.0), "values: need the shape (..., 5, 8) of the grid's psi, chi, got (3, 4)"),
    (lambda g: maps.chord(g, np.ones((5, 8)), [1.0, 2.0], [0.0, 1.0]), "origin: needs (x, y, z), the last axis of"),
    (lambda g: maps.chord(g, np.ones((5, 8)), [1.5, 0.0, 0.0], [0.0, 0.0, 0.0]), "direction: needs a vector that is not zero"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(grid((8, 6, 5)))
