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

from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import SourceError, index_by_stem, make_clip, read_json

COLLECTIONS = {
    "AudioSet_SL": ("as_final.json", "youtube"),
    "BBC_Sound_Effects": ("bbc_final.json", "bbc"),
    "FreeSound": ("fsd_final.json", "freesound"),
    "SoundBible": ("sb_final.json", "soundbible"),
}


def clips(root: Path) -> Iterator[Clip | Rejected]:
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
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not {"id", "caption"} <= entry.keys():
                raise SourceError(f"{file}: entry {number} has not the fields id and caption")
            stem = str(entry["id"]).removesuffix(".wav")
            if not stem:
                yield Rejected(f"wavcaps:{name}", f"entry {number} has an empty id")
                continue
            origin = stem.removeprefix("Y") if name == "AudioSet_SL" else stem
            yield make_clip(
                "wavcaps",
                f"{name}/{stem}",
                files.get(stem),
                group=f"{COLLECTIONS[name][1]}:{origin}",
                captions=[str(entry["caption"] or "")],
                provenance="llm:chatgpt",
            )


def _entries(file: Path) -> list:
    content = read_json(file)
    if isinstance(content, dict):
        content = content.get("data")
    if not isinstance(content, list):
        raise SourceError(f"{file}: no list `data` in it")
    return content
