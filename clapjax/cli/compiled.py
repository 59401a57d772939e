"""Where the verbs that compile keep what they have compiled."""

import argparse
import sys


def add_cache_argument(parser: argparse.ArgumentParser) -> None:
    """--no_compilation_cache."""
    parser.add_argument(
        "--no_compilation_cache",
        action="store_true",
        help="compile everything, and keep nothing of it for the next start",
    )


def keep_compiled(args: argparse.Namespace) -> None:
    """Applies the flag to this process."""
    import jax

    from clapjax.compilation import compilation_cache

    if args.no_compilation_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    compilation_cache()


def say_where_compiled() -> None:
    """A line on stderr, of a run whose input was good: where its compiled programs are kept."""
    import jax

    where = jax.config.jax_compilation_cache_dir
    if where and jax.config.jax_enable_compilation_cache:
        print(f"compiled programs: {where} (--no_compilation_cache: none)", file=sys.stderr)
