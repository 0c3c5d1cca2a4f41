"""What the documentation shows runs and is right: the worked equation, and every Python snippet of every page."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import FLAGS, plain_jit

import jaxbelt as jb

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "```python" in p.read_text()]


def _load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ou = _load("ornstein_uhlenbeck")
PRM = ou.Parameters(pull=0.8, mean=0.4, D=0.5)
START, VARIANCE, END = -1.0, 0.3, 2.0


def _run(cells, steps, prm=PRM, x=(-6.0, 6.0)):
    grid = ou.grid(x, cells)
    f0 = ou.exact(0.0, grid["x"].centers, prm, START, VARIANCE)
    return grid, jb.solve(ou.problem(grid, prm), f0, t=[0.0, END], dt=END / steps)


def test_ornstein_uhlenbeck_converges_at_second_order_in_x_and_t():
    errors = []
    for n in (1, 2, 4):
        grid, sol = _run(60 * n, 10 * n)
        want = ou.exact(END, grid["x"].centers, PRM, START, VARIANCE)
        errors.append(float(grid.content(abs(sol.f[-1] - want))))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 1e-3 and np.all(orders > 1.9), (errors, orders)


def test_ornstein_uhlenbeck_moments():
    grid, sol = _run(240, 80)
    x, f = grid["x"].centers, sol.f[-1]
    mean = float(grid.content(x * f))
    variance = float(grid.content((x - mean) ** 2 * f))
    decay = np.exp(-PRM.pull * END)
    assert mean == pytest.approx(PRM.mean + (START - PRM.mean) * decay, abs=5e-4)
    assert variance == pytest.approx(PRM.D / PRM.pull + (VARIANCE - PRM.D / PRM.pull) * decay**2, rel=2e-3)


def test_ornstein_uhlenbeck_keeps_content_and_sign_from_a_delta():
    grid = ou.grid(cells=120)
    f0 = jnp.zeros(120).at[40].set(1.0 / grid["x"].measure[40])
    sol = jb.solve(ou.problem(grid, PRM), f0, t=[0.0, 1.0, 2.0], dt=0.5)
    assert float(sol.f.min()) >= 0.0
    np.testing.assert_allclose(grid.content(sol.f), 1.0, atol=1e-13)
    assert set(sol.budget) >= {"x.lower", "x.upper"} and all(abs(float(v[-1])) < 1e-15 for v in sol.budget.values())


def test_ornstein_uhlenbeck_steady_state_is_exact():
    grid = ou.grid(cells=50)
    f0 = ou.exact(np.inf, grid["x"].centers, PRM, 0.0, 1.0)
    sol = jb.solve(ou.problem(grid, PRM), f0, t=[0.0, 100.0], dt=1.0)
    np.testing.assert_allclose(sol.f[-1], f0, rtol=1e-11)


def test_ornstein_uhlenbeck_gradient_is_the_exact_derivative():
    grid = ou.grid(cells=120)
    base = ou.problem(grid, PRM)
    f0 = ou.exact(0.0, grid["x"].centers, PRM, START, VARIANCE)
    weight = jnp.asarray(np.cos(grid["x"].centers) * grid["x"].measure)

    def computed(values):
        prm = base.parameters.replace(**dict(zip(("pull", "mean", "D"), values)))
        sol = jb.solve(base.replace(parameters=prm), f0, t=[0.0, END], dt=END / 40)
        return jnp.sum(weight * sol.f[-1])

    def exact(values):
        prm = base.parameters.replace(**dict(zip(("pull", "mean", "D"), values)))
        return jnp.sum(weight * ou.exact(END, grid["x"].centers, prm, START, VARIANCE))

    at = jnp.array([PRM.pull, PRM.mean, PRM.D])
    reverse, forward = plain_jit(jax.grad(computed))(at), plain_jit(jax.jacfwd(computed))(at)
    computed = plain_jit(computed)
    np.testing.assert_allclose(reverse, jax.grad(exact)(at), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)
    h = 1e-4 * jnp.eye(3)
    differences = [(computed(at + e) - computed(at - e)) / 2e-4 for e in h]
    np.testing.assert_allclose(reverse, differences, atol=1e-6 * float(jnp.linalg.norm(reverse)))


def test_ornstein_uhlenbeck_refuses_a_negative_diffusion():
    with pytest.raises(ValueError, match="D: must be positive, got -1"):
        ou.problem(ou.grid(), ou.Parameters(D=-1.0))


RUN_PAGE = """
import pathlib, re, sys
import jax
jax.config.update("jax_enable_x64", True)
page, examples = pathlib.Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, examples)
text, names = page.read_text(), {"__name__": "__snippet__"}
for match in re.finditer(r"^```python\\n(.*?)^```", text, re.S | re.M):
    if "--8<--" not in match[1]:                                  # a file that is included has its own tests
        line = text[: match.start(1)].count("\\n")
        exec(compile("\\n" * line + match[1], str(page), "exec"), names)
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """What one page has compiled, the next ones read."""
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs")),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


LONG = ("foliated.md", "local-diffusion.md")             # half a minute of compiling each


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] if p.name in LONG else []) for p in PAGES],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_snippets_of(page, tmp_path, programs):
    """The fenced Python blocks of a page run in order, in one namespace, an empty folder and a process of its own."""
    environment = os.environ | programs | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"}
    words = [sys.executable, "-c", RUN_PAGE, str(page), str(ROOT / "docs" / "examples")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


CASE_PAGES = [p for p in PAGES if "```toml" in p.read_text()]


@pytest.mark.parametrize("page", CASE_PAGES, ids=lambda p: p.name)
def test_case_files_of(page, tmp_path):
    """The TOML blocks of a page are cases that can be run."""
    from jaxbelt import cases

    (tmp_path / "kp.txt").write_text("".join(f"201303{day} 2.0 2.3 3.0 4.7 5.0 3.3 2.0 1.0\n" for day in range(16, 22)))
    for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.S | re.M):
        case = cases.build(text, folder=tmp_path)
        assert case.f0.shape == case.problem.grid.shape and case.t[-1] > 0
