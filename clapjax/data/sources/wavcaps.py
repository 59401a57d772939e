"""WavCaps (Mei et al., TASLP 2024): 403k clips of four collections, captions by ChatGPT.

Get it: huggingface.co/datasets/cvssp/WavCaps. Layout: `json_files/AudioSet_SL/as_final.json`,
`json_files/BBC_Sound_Effects/bbc_final.json`, `json_files/FreeSound/fsd_final.json` and
`json_files/SoundBible/sb_final.json` = {data: [{id, caption, duration, ...}, ...]}, any of them,
and the unpacked audio below a folder named as the collection (`waveforms/FreeSound/1234.flac`). No
splits.

Its blacklists (`json_files/blacklist/*.json`, by which the authors keep AudioCaps, Clotho, ESC-50,
UrbanSound8K and VGGSound out) go into `source.exclude`.
"""

from collections.abc import Iterator
from pathlib import Path

from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import make_clip, read_json, texts_of, unread_columns
from clapjax.data.sources.finding import find_audio, index_by_stem, stem_of

COLLECTIONS = {
    "AudioSet_SL": ("as_final.json", "youtube"),
    "BBC_Sound_Effects": ("bbc_final.json", "bbc"),
    "FreeSound": ("fsd_final.json", "freesound"),
    "SoundBible": ("sb_final.json", "soundbible"),
}

TEXTS = ("caption", "negative_captions", "provenance")
PUBLISHED = (
    *("id", "duration", "audio", "file_name", "href", "download_link"),
    *("title", "description", "author", "category"),
)


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips of each collection in the order of its list."""
    lists = {
        name: root / "json_files" / name / file
        for name, (file, _) in COLLECTIONS.items()
        if (root / "json_files" / name / file).is_file()
    }
    if not lists:
        expected = ", ".join(f"{name}/{file}" for name, (file, _) in COLLECTIONS.items())
        raise SourceError(f"{root / 'json_files'}: none of {expected} is here")
    for name, file in lists.items():
        entries = _entries(file)
        files = index_by_stem(root, within=name)
        yield from unread_columns(file, filter(_is_entry, entries), PUBLISHED)
        for number, entry in enumerate(entries):
            if not _is_entry(entry):
                raise SourceError(f"{file}: entry {number} has not the fields id and caption")
            stem = stem_of(str(entry["id"]))
            if not stem:
                yield Rejected(f"wavcaps:{name}", f"entry {number} has an empty id")
                continue
            origin = stem.removeprefix("Y") if name == "AudioSet_SL" else stem
            yield make_clip(
                "wavcaps",
                f"{name}/{stem}",
                find_audio(files, stem),
                group=f"{COLLECTIONS[name][1]}:{origin}",
                **texts_of({name: entry.get(name) for name in TEXTS}, "llm:chatgpt"),
            )


def _is_entry(entry) -> bool:
    return isinstance(entry, dict) and {"id", "caption"} <= entry.keys()


def _entries(file: Path) -> list:
    content = read_json(file)
    if isinstance(content, dict):
        content = content.get("data")
    if not isinstance(content, list):
        raise SourceError(f"{file}: no list `data` in it")
    return content
