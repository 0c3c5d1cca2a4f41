"""What the data say of the parameters: covariance, correlation, and the directions that they leave open."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["Direction", "Posterior", "posterior", "rounding"]


def rounding() -> float:
    """Eigenvalues below this share of the largest are rounding, in the precision of the run."""
    import jax.numpy as jnp

    return 4096.0 * float(jnp.finfo(jnp.result_type(float)).eps)


@dataclasses.dataclass(frozen=True)
class Direction:
    """A combination of parameters that the data do not determine. weights: {label: weight}, sum of squares 1, in units of each
    parameter's `scale`; sigma: how well the data know it, in those units (inf: not at all)."""

    weights: dict
    sigma: float

    def __str__(self):
        named = sorted(self.weights.items(), key=lambda kv: -abs(kv[1]))
        text = " ".join(f"{w:+.2f} {k}" for k, w in named[:4] if abs(w) > 0.1 * abs(named[0][1]))
        return f"{text} (sigma {self.sigma:.3g})"


@dataclasses.dataclass(frozen=True)
class Posterior:
    """covariance (n, n) of theta, its diagonal's roots sigma (n,) (inf where nothing is known, NaN where there is no minimum),
    correlation (n, n), spectrum: eigenvalues of the data's Fisher matrix in units of `scale`, smallest first; undetermined.

    inverse (n, n): the covariance of all that is known (a pseudo-inverse); open (k, n): the directions of theta that are not, in
    each of which an entry has the length that `unit` (n,) says: see `spread`.
    """

    covariance: np.ndarray
    sigma: np.ndarray
    correlation: np.ndarray
    spectrum: np.ndarray
    undetermined: tuple
    positive: bool
    inverse: np.ndarray
    open: np.ndarray
    unit: np.ndarray

    def spread(self, slope):
        """Standard error of something whose slopes in theta are slope (..., n); inf where it depends on what is not known."""
        root = np.sqrt(np.maximum(np.einsum("...i,ij,...j->...", slope, self.inverse, slope), 0.0))
        if not len(self.open):
            return root
        along = np.abs(slope @ self.open.T).max(axis=-1)
        return np.where(along > np.sqrt(rounding()) * np.linalg.norm(slope / self.unit, axis=-1), np.inf, root)


def posterior(fisher, prior, labels, scale) -> Posterior:
    """`Posterior` from the Fisher matrix of the data, the curvature of the priors (both (n, n)) and the scales (n,).

    A direction is undetermined where the data alone know it worse than one scale: an eigenvalue below 1 of S F S. Sigma has the
    priors in it. Where the whole curvature, in units in which its diagonal is 1, has an eigenvalue that is no more than rounding,
    parameters with a share in it have an infinite sigma.
    """
    rounded = rounding()
    n = len(labels)
    scaled = fisher * np.outer(scale, scale)
    if not np.all(np.isfinite(scaled + prior)):
        nan = np.full((n, n), np.nan)
        return Posterior(nan, nan[0], nan, nan[0], (), False, nan, np.zeros((0, n)), np.ones(n))
    values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    floor = rounded * max(values.max(initial=0.0), 1e-300)
    loose = []
    for value, vector in zip(values, vectors.T):
        if value < 1.0:
            vector = vector * np.sign(vector[np.argmax(np.abs(vector))])
            loose.append(Direction(dict(zip(labels, vector.tolist())), float(value**-0.5) if value > floor else float("inf")))
    whole = fisher + prior
    size = np.sqrt(np.maximum(np.diag(whole), 0.0))
    unit = np.where(size > 0, size, 1.0)
    whole = whole / np.outer(unit, unit)
    values_all, vectors_all = np.linalg.eigh(0.5 * (whole + whole.T))
    kept = values_all > rounded * max(values_all.max(initial=0.0), 1e-300)
    inverse = (vectors_all[:, kept] / values_all[kept]) @ vectors_all[:, kept].T
    open_ = (np.sum(vectors_all[:, ~kept] ** 2, axis=1) > 1e-8) | (size == 0)
    covariance = inverse = inverse / np.outer(unit, unit)
    never = vectors_all[:, ~kept].T / unit
    scales = unit
    sigma = np.where(open_, np.inf, np.sqrt(np.maximum(np.diag(covariance), 0.0)))
    unit = np.where(np.isfinite(sigma) & (sigma > 0), sigma, 1.0)
    correlation = covariance / np.outer(unit, unit)
    correlation[open_], correlation[:, open_] = np.nan, np.nan
    covariance = np.where(open_[:, None] | open_[None, :], np.nan, covariance)
    covariance[open_, open_] = np.inf
    correlation[np.diag_indices(n)] = 1.0
    return Posterior(covariance, sigma, correlation, values, tuple(loose), bool(kept.all()), inverse, never, scales)
