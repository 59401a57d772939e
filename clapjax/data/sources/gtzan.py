"""GTZAN (Tzanetakis and Cook, 2002): 1,000 excerpts of music of 30 s, 10 genres.

Get it: kaggle.com/datasets/andradaolteanu/gtzan-dataset-music-genre-classification. Layout:
`genres_original/<genre>/<genre>.00000.wav` (or `genres/`, with .au files). Labels only, one each;
no splits. `jazz.00054.wav` of that archive is damaged and is listed as left out.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Rejected, SourceError
from clapjax.data.sources.common import first_existing, make_clip
from clapjax.data.sources.finding import audio_files, stem_of


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips sorted by genre and file name."""
    folder = first_existing(root, "genres_original", "genres")
    files = list(audio_files(folder))
    if not files:
        raise SourceError(f"{folder}: no audio files in folders named by genre")
    for file in files:
        genre = file.parent.name
        if file.parent.parent != folder:
            yield Rejected(f"gtzan:{file.relative_to(folder)}", "not in a folder named by genre")
        elif not file.name.startswith(f"{genre}."):
            yield Rejected(f"gtzan:{genre}/{file.name}", f"not named {genre}.NUMBER")
        else:
            yield make_clip("gtzan", stem_of(file.name), file, labels=[genre])
