"""Where the verbs that compile keep what they have compiled."""

import argparse
import sys

from clapjax.cli.show import plain_warnings


def add_cache_argument(parser: argparse.ArgumentParser) -> None:
    """--no_compilation_cache."""
    parser.add_argument(
        "--no_compilation_cache",
        action="store_true",
        help="compile everything, and keep nothing of it for the next start",
    )


def keep_compiled(args: argparse.Namespace, verb: str) -> None:
    """Applies the flag to this process, and says in a line on stderr where programs are kept."""
    import jax

    from clapjax.compilation import compilation_cache

    if args.no_compilation_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    with plain_warnings(verb):
        where = compilation_cache()
    if where is not None:
        print(f"compiled programs: {where} (--no_compilation_cache: none)", file=sys.stderr)
