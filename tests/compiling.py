"""`plain_jit`: `jax.jit` with the last stage of the compiler (LLVM, fusion) told not to optimise: a quarter of the time.

For statements far above rounding (derivatives against differences, orders of convergence) whose functions are compiled to be
called a few times. What is said to round-off, of positivity, content and equal bits, is tested as `jax.jit` compiles it for
everyone. JAXBELT_TESTS_OPTIMISED=1 compiles everything so.

`pytest.mark.plain` on a test, or as `pytestmark` of a file, has everything compiled so that the test compiles, single
operations outside `jit` and what the library compiles too; `pytest.mark.optimised` takes a test of such a file out again.
"""

import os
import sys
from functools import partial

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

if os.environ.get("JAXBELT_TESTS_OPTIMISED"):
    OPTIONS = {}
try:
    jax.jit(lambda x: x + 1, compiler_options=OPTIONS).lower(1.0).compile()
except Exception:                                        # a compiler that does not know them
    OPTIONS = {}

plain_jit = partial(jax.jit, compiler_options=OPTIONS)
# the same for a process of its own
FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in OPTIONS.items())

_PLAIN = False


def compile_plainly(on):
    """All that is compiled from now on, plainly or as usual; what was compiled the other way is forgotten."""
    global _PLAIN
    on = bool(on and OPTIONS)
    if on != _PLAIN:
        jax.clear_caches()
        _PLAIN = on


def _watch():
    """JAX takes these options from a call of `jit` or for a whole process, not in between: they join where it builds them."""
    from jax._src import compiler

    usual = compiler.get_compile_options

    def options(*args, env_options_overrides=None, **kw):
        return usual(*args, env_options_overrides=(OPTIONS if _PLAIN else {}) | (env_options_overrides or {}), **kw)

    compiler.get_compile_options = options


if OPTIONS:
    try:
        _watch()
    except (ImportError, AttributeError):                # another JAX: `plain` tests take longer and say the same
        pass


def plain_advance():
    """What `solve` calls, compiled plainly; inside a transformation it is what it always is."""
    import jaxbelt  # noqa: F401

    module = sys.modules["jaxbelt.solve"]
    usual, plain = module._advance, plain_jit(module.advance)

    def advance(problem, f, schedule):
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((problem, f)))
        return (usual if traced else plain)(problem, f, schedule)

    return module, advance
