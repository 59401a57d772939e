"""What XLA has compiled is kept on disk, so that a second start of a program does not compile.

JAX's own persistent cache does it; here it gets a folder, a bound, and a start that cannot fail.
An entry's key has the program, the versions of JAX and XLA, the compiler's flags, and the devices
with the instructions that a CPU knows: machines that differ can share a folder.
"""

import os
import warnings
from pathlib import Path

import filelock
import jax

MAX_BYTES = 2**30  # of our folder; what was used longest ago goes first
LOCK_SECONDS = 10.0  # JAX's own patience


def compilation_cache(folder: str | os.PathLike | None = None) -> str | None:
    """Keeps compiled programs, of this and all later starts, in a folder of the user's.

    Of the whole process: JAX has one such folder. One that it was given before, by
    JAX_COMPILATION_CACHE_DIR or `jax.config`, is used as it is, in the size that JAX is told.
    One of several processes keeps none otherwise: JAX lets the first one write, and where that one
    alone finds its program, it waits in it for the others longer than Gloo or NCCL do.

    Args:
      folder: where, at most MAX_BYTES of them; None: `default_folder()`.

    Returns:
      Where they are kept; None: nowhere, since JAX_ENABLE_COMPILATION_CACHE is off,
      JAX_COMPILATION_CACHE_DIR empty, this one of several processes, or the folder of no use, of
      which a warning tells.
    """
    if not jax.config.jax_enable_compilation_cache or jax.config.jax_compilation_cache_dir == "":
        return None
    if jax.config.jax_compilation_cache_dir is None:
        if jax.distributed.is_initialized() and jax.process_count() > 1:
            return None
        try:
            where = default_folder() if folder is None else Path(folder)
            where.mkdir(mode=0o700, parents=True, exist_ok=True)  # its programs are run
            _mend(where)
        except (OSError, RuntimeError) as error:
            warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
            return None
        jax.config.update("jax_compilation_cache_dir", str(where))
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    if jax.config.jax_persistent_cache_min_compile_time_secs == 1.0:  # JAX's default
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return jax.config.jax_compilation_cache_dir


def default_folder() -> Path:
    """`clapjax/compiled` in the user's folder for caches.

    Raises:
      RuntimeError: the user has no home folder.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    caches = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return caches / "clapjax" / "compiled"


def _mend(folder: Path) -> None:
    """Removes entries that a killed process or a full disk left half written.

    JAX writes KEY-cache, then KEY-atime, and stumbles over one without the other for ever.

    Raises:
      OSError, RuntimeError: the folder cannot be written to or locked.
    """
    with filelock.FileLock(folder / ".lockfile", timeout=LOCK_SECONDS):
        begun, ended = (
            {path.name.removesuffix(end) for path in folder.glob(f"*{end}")}
            for end in ("-cache", "-atime")
        )
        for key in begun ^ ended:
            for end in ("-cache", "-atime"):
                (folder / f"{key}{end}").unlink(missing_ok=True)
