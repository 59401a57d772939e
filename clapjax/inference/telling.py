"""Warnings for who calls clapjax."""

import sys
import warnings


def warn(message: str) -> None:
    """A UserWarning at the line that called into clapjax, from however deep inside."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("clapjax."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
