"""ESC-10: the ten classes of ESC-50 whose column esc10 says True.

Get it and layout: as esc50.py. A folder that holds ESC-10 alone is read by `esc50` as well.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.esc50 import list_esc50


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips sorted by file name, then what does not fit the layout."""
    yield from list_esc50(root, only_esc10=True)
