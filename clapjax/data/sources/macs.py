"""MACS (Martin-Morato and Mesaros, DCASE 2021): captions of 10-s urban scenes by several people.

Get it: zenodo.org/records/5114771 (MACS.yaml), and its audio, which is part of TAU Urban Acoustic
Scenes 2019, development (zenodo.org/records/2589280, scenes airport, park, public_square). Layout:
`MACS.yaml` = {files: [{filename, annotations: [{sentence, tags: [...]}, ...]}, ...]}, and the audio
anywhere below (`audio/airport-barcelona-0-0-a.wav`). No splits. Labels are everyone's tags.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.paths import read_text
from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import make_clip, texts_of, unread_columns
from clapjax.data.sources.finding import find_audio, index_by_stem, stem_of


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the table."""
    entries = _read(root / "MACS.yaml")
    files = index_by_stem(root)
    whole = (entry for entry in entries if isinstance(entry, dict))
    yield from unread_columns(root / "MACS.yaml", whole, ("filename", "annotations"))
    for number, entry in enumerate(entries):
        try:
            stem = stem_of(entry["filename"])
            texts = {"captions": [one["sentence"] for one in entry["annotations"]]}
            tags = [str(tag) for one in entry["annotations"] for tag in one.get("tags") or ()]
            texts = texts_of({"labels": [tag.replace("_", " ") for tag in tags]} | entry | texts)
        except (TypeError, KeyError, AttributeError) as error:
            raise SourceError(
                f"{root / 'MACS.yaml'}: file {number} has not the fields filename and annotations "
                f"with sentence and tags ({error!r})"
            ) from error
        place = "-".join(stem.split("-")[:3])  # scene, city and location: one recording session
        yield make_clip(
            "macs",
            stem,
            find_audio(files, entry["filename"]),
            group=f"tau:{place}",
            **texts,
        )


def _read(file: Path) -> list:
    import yaml

    try:
        content = yaml.safe_load(read_text(file))
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not isinstance(content.get("files"), list):
        raise SourceError(f"{file}: no list `files` in it")
    return content["files"]
