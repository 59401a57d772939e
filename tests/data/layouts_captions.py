"""Miniatures of the captioned data sets, each made below a folder in its published layout."""

import json
from pathlib import Path

from tests.data.miniature import Expected, Layout, write_audio, write_table


def audiocaps(root: Path) -> Layout:
    header = "audiocap_id,youtube_id,start_time,caption"
    train = [
        (91139, "r1nicOVtvkQ", 130, "A woman talks nearby as water pours"),
        (58146, "UDGBjjwyaqE", 20, "Multiple clanging and clanking sounds"),
    ]
    val = [
        (97151, "vfY_TJq7n_U", 130, "Rustling occurs, ducks quack and water splashes"),
        (97152, "vfY_TJq7n_U", 130, "Ducks quack"),
    ]
    table = write_table(root / "train.csv", train, header)
    write_table(root / "val.csv", val, header)
    audio = [
        write_audio(root / "audio" / "Yr1nicOVtvkQ.wav", 0),
        write_audio(root / "audio" / "58146.wav", 1),
        write_audio(root / "audio" / "vfY_TJq7n_U_130000.flac", 2),
    ]
    clips = (
        Expected("audiocaps-train/r1nicOVtvkQ_130", 0, "youtube:r1nicOVtvkQ", "train",
                 captions=(train[0][3],)),
        Expected("audiocaps-train/UDGBjjwyaqE_20", 1, "youtube:UDGBjjwyaqE", "train",
                 captions=(train[1][3],)),
        Expected("audiocaps-validation/vfY_TJq7n_U_130", 2, "youtube:vfY_TJq7n_U", "validation",
                 captions=(val[0][3], val[1][3])),
    )  # fmt: skip
    return Layout(
        clips, table, audio[0], ("caption\n", "text\n"), (train[0][3], "  "),
        extra={"val": root / "val.csv"},
    )  # fmt: skip


def clotho(root: Path) -> Layout:
    header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5"
    names = ("Distorted AM Radio noise.wav", "Paper_Parchment_Rustling.wav")
    captions = [tuple(f"{name} said in way {way}, twice." for way in range(5)) for name in names]
    folders = {"development": "train", "evaluation": "test"}
    clips, audio = [], []
    for i, (folder, split) in enumerate(folders.items()):
        write_table(root / f"clotho_captions_{folder}.csv", [(names[i], *captions[i])], header)
        audio.append(write_audio(root / folder / names[i], i))
        stem = names[i].removesuffix(".wav")
        group = f"clotho:{split}/{stem}" if i else "freesound:335683"
        clips.append(Expected(f"clotho-{split}/{stem}", i, group, split, captions=captions[i]))
    metadata = root / "clotho_metadata_development.csv"
    metadata.write_text(
        "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
        f'{names[0]},radio;caf\xe9,335683,https://freesound.org/s/1,"[0, 1]",x,y\n',
        encoding="latin-1",
    )
    table = root / "clotho_captions_development.csv"
    row = table.read_text().splitlines()[1]
    blank = f"{names[0]},,,,,"
    return Layout(
        tuple(clips), table, audio[0], ("caption_3", "caption_6"), (row, blank),
        (row, f"{row}\n{row}"), {"evaluation": root / "clotho_captions_evaluation.csv"},
    )  # fmt: skip


MACS = """files:
- annotations:
  - annotator_id: 43
    sentence: Birds sing while people walk
    tags:
    - birds_singing
    - footsteps
  - annotator_id: 12
    sentence: "A crowd talks: quietly"
    tags:
    - footsteps
    - adults_talking
  filename: airport-barcelona-0-0-a.wav
- annotations:
  - annotator_id: 3
    sentence: Traffic
    tags: []
  filename: park-lisbon-12-7-a.wav
"""


def macs(root: Path) -> Layout:
    audio = write_audio(root / "audio" / "airport-barcelona-0-0-a.wav", 0)
    write_audio(root / "audio" / "park-lisbon-12-7-a.wav", 1)
    (root / "MACS.yaml").write_text(MACS)
    clips = (
        Expected("macs-airport-barcelona-0-0-a", 0, "tau:airport-barcelona-0",
                 labels=("birds singing", "footsteps", "adults talking"),
                 captions=("Birds sing while people walk", "A crowd talks: quietly")),
        Expected("macs-park-lisbon-12-7-a", 1, "tau:park-lisbon-12", captions=("Traffic",)),
    )  # fmt: skip
    first = f"- annotations{MACS.split('- annotations', 2)[1]}"
    blank = "- annotations: []\n  filename: airport-barcelona-0-0-a.wav\n"
    return Layout(
        clips, root / "MACS.yaml", audio, ("sentence", "caption"), (first, blank),
        (first, first + first),
    )  # fmt: skip


def wavtext5k(root: Path) -> Layout:
    header = "view_link,download_link,title,description,fname,tags"
    rows = [
        ("https://soundbible.com/47-Bone-Saw-Sound.html", "x", "Bone Saw", " Bone saw, great ",
         "bone saw sound_2074.wav", "['saw', 'bone saw']"),
        ("https://bigsoundbank.com/detail-0477-wilhelm-scream.html", "x", "Wilhelm scream", "",
         "0477.wav", ""),
    ]  # fmt: skip
    table = write_table(root / "WavText5K.csv", rows, header)
    audio = [write_audio(root / "44100" / "audios" / row[4], i) for i, row in enumerate(rows)]
    clips = (
        Expected("wavtext5k-bone saw sound_2074", 0, "soundbible:47", labels=("saw", "bone saw"),
                 captions=("Bone saw, great",)),
        Expected("wavtext5k-0477", 1, "wavtext5k:0477", captions=("Wilhelm scream",)),
    )  # fmt: skip
    text = table.read_text()
    row = text[text.index("https://soundbible") : text.index("https://bigsoundbank")]
    blank = "https://soundbible.com/47-B.html,x,,,bone saw sound_2074.wav,\n"
    return Layout(clips, table, audio[0], ("fname", "file"), (row, blank), (row, row * 2))


def autoacd(root: Path) -> Layout:
    rows = [
        ("oPRC3zComfA_000117", "Electronic music plays as a person types"),
        ("YmAJAqzo-Y_Y", 'The audio caption could be: "A woman talks in a small room."'),
        ("oPRC3zComfA_000117", "Music plays"),
    ]
    table = write_table(root / "train.csv", rows, "youtube_id,caption")
    audio = [
        write_audio(root / "vggsound" / "oPRC3zComfA_000117.wav", 0),
        write_audio(root / "audioset" / "YmAJAqzo-Y_Y.wav", 1),
    ]
    clips = (
        Expected("autoacd-train/oPRC3zComfA_000117", 0, "youtube:oPRC3zComfA", "train",
                 captions=(rows[0][1], rows[2][1]), provenance="llm:chatgpt"),
        Expected("autoacd-train/YmAJAqzo-Y_Y", 1, "youtube:mAJAqzo-Y_Y", "train",
                 captions=("A woman talks in a small room.",), provenance="llm:chatgpt"),
    )  # fmt: skip
    empty = table.read_text().split("\n", 1)[1]
    return Layout(
        clips, table, audio[0], ("youtube_id", "video"),
        (empty, "oPRC3zComfA_000117,\nYmAJAqzo-Y_Y,A woman talks in a small room.\n"),
    )  # fmt: skip


def wavcaps(root: Path) -> Layout:
    """The same number names a Freesound and a SoundBible recording."""
    entries = {
        "AudioSet_SL/as_final.json": ("Yb0RFKhbpFJA.wav", "Wind is blowing."),
        "FreeSound/fsd_final.json": ("2219", "Rain falls."),
        "SoundBible/sb_final.json": ("2219", "An airplane is landing."),
    }
    clips, audio = [], []
    for i, (file, (name, caption)) in enumerate(entries.items()):
        collection = file.split("/")[0]
        stem = name.removesuffix(".wav")
        audio.append(write_audio(root / "waveforms" / collection / f"{stem}.flac", i))
        file = root / "json_files" / file
        file.parent.mkdir(parents=True)
        data = [{"id": name, "caption": caption, "duration": 10.0}]
        file.write_text(json.dumps({"num_captions_per_audio": 1, "data": data}))
        group = ("youtube:b0RFKhbpFJA", "freesound:2219", "soundbible:2219")[i]
        clips.append(
            Expected(
                f"wavcaps-{collection}/{stem}", i, group, captions=(caption,),
                provenance="llm:chatgpt",
            )
        )  # fmt: skip
    table = root / "json_files" / "AudioSet_SL" / "as_final.json"
    entry = json.dumps({"id": "Yb0RFKhbpFJA.wav", "caption": "Wind is blowing.", "duration": 10.0})
    return Layout(
        tuple(clips), table, audio[0], ('"caption"', '"text"'), ("Wind is blowing.", ""),
        (entry, f"{entry}, {entry}"),
        {name: root / "json_files" / name for name in list(entries)[1:]},
    )  # fmt: skip
