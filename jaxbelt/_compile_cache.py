"""Compiled programs kept between starts of the command line (the library itself sets nothing)."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

__all__ = ["kept_programs", "remember_programs"]

_MOST = 2**30              # bytes, at a start
_OFF = ("off", "0", "no", "false")


def remember_programs(jax):
    """Keep compiled programs between starts, in the user's cache folder; JAXBELT_CACHE names another one, or is "off".

    A folder for each kind of processor, because programs are made for its instructions. Whoever set JAX's own cache keeps it.
    """
    asked = os.environ.get("JAXBELT_CACHE", "")
    if asked.lower() in _OFF or jax.config.jax_compilation_cache_dir:
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(asked or Path(home) / "jaxbelt") / f"{platform.machine()}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        _forget_oldest(folder)
    except OSError:
        return                                                 # a cache is a convenience: no run fails for it
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def kept_programs(jax) -> str:
    """Where compiled programs are kept, how large that is, and how to change it."""
    folder = jax.config.jax_compilation_cache_dir
    if not folder:
        off = os.environ.get("JAXBELT_CACHE", "").lower() in _OFF
        return "not kept between starts" + (" (JAXBELT_CACHE)" if off else ": the cache folder cannot be written")
    try:
        size = sum(p.stat().st_size for p in Path(folder).iterdir() if p.is_file()) / 2**20
    except OSError:
        size = 0.0
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return f"{folder}, {size:.0f} MiB (of JAX_COMPILATION_CACHE_DIR: jaxbelt removes nothing there)"
    return (f"{folder}, {size:.0f} MiB of at most {_MOST / 2**20:.0f} MiB "
            "(JAXBELT_CACHE=off keeps none, JAXBELT_CACHE=DIR keeps them there)")


def _processor() -> str:
    """A short name of what the processor can do."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        what = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        what = platform.processor()
    return hashlib.sha256(what.encode()).hexdigest()[:8]


def _forget_oldest(folder: Path, most: int = _MOST):
    """Remove the programs used longest ago until the rest take less than `most` bytes."""
    found = [(p.stat().st_mtime, p.stat().st_size, p) for p in folder.iterdir() if p.is_file()]
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size
