"""Miniatures of the labelled data sets, each made below a folder in its published layout."""

from pathlib import Path

from tests.data.miniature import Expected, Layout, write_audio, write_table


def esc50(root: Path) -> Layout:
    header = "filename,fold,target,category,esc10,src_file,take"
    rows = [
        ("1-100032-A-0.wav", 1, 0, "dog", "True", "100032", "A"),
        ("4-155670-A-11.wav", 4, 11, "sea_waves", "True", "155670", "A"),
        ("5-9032-A-0.wav", 5, 0, "church_bells", "False", "9032", "A"),
    ]
    audio = [write_audio(root / "audio" / row[0], i) for i, row in enumerate(rows)]
    clips = [
        Expected(
            row[0].removesuffix(".wav"), i, f"freesound:{row[5]}", fold=row[1],
            labels=(row[3].replace("_", " "),),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    table = write_table(root / "meta" / "esc50.csv", rows, header)
    line = "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    return Layout(
        tuple(clips), table, audio[0], ("category", "label"), (",dog,", ",,"), (line, line * 2)
    )


def esc10(root: Path) -> Layout:
    whole = esc50(root)
    return Layout(
        whole.clips[:2], whole.table, whole.audio, ("esc10", "ten"), whole.empty, whole.again
    )


def urbansound8k(root: Path) -> Layout:
    header = "slice_file_name,fsID,start,end,salience,fold,classID,class"
    rows = [
        ("100032-3-0-0.wav", 100032, 0.0, 0.317551, 1, 5, 3, "dog_bark"),
        ("100263-2-0-117.wav", 100263, 58.5, 62.5, 1, 10, 2, "children_playing"),
    ]
    audio = [
        write_audio(root / "audio" / f"fold{row[5]}" / row[0], i) for i, row in enumerate(rows)
    ]
    clips = [
        Expected(
            f"urbansound8k-{row[0].removesuffix('.wav')}", i, f"freesound:{row[1]}", fold=row[5],
            labels=(row[7].replace("_", " "),),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    table = write_table(root / "metadata" / "UrbanSound8K.csv", rows, header)
    line = "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
    return Layout(
        tuple(clips), table, audio[0], ("fsID", "id"), (",dog_bark", ","), (line, line * 2)
    )


def vggsound(root: Path) -> Layout:
    rows = [
        ("---g-f_I2yQ", 1, "people marching", "test"),
        ("Y3Gc8iEAZgw", 30, "bee, wasp, etc. buzzing", "train"),  # an id that begins with Y
    ]
    audio = [
        write_audio(root / "video" / "---g-f_I2yQ_000001.wav", 0),
        write_audio(root / "video" / "Y3Gc8iEAZgw_000030.flac", 1),
    ]
    clips = [
        Expected(
            f"vggsound-{row[3]}/{row[0]}_{row[1]:06d}", i, f"youtube:{row[0]}", row[3],
            labels=(row[2],),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    table = write_table(root / "vggsound.csv", rows)
    line = "---g-f_I2yQ,1,people marching,test\n"
    return Layout(
        tuple(clips), table, audio[0], (",1,", ","), ("people marching", ""), (line, line * 2)
    )


SEGMENTS = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=2, num_segs=2, num_unique_labels=527, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
"""


def audioset(root: Path) -> Layout:
    """The first clip has strong labels too; the last has nothing else."""
    train = root / "balanced_train_segments.csv"
    root.mkdir(parents=True, exist_ok=True)
    train.write_text(
        SEGMENTS + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'
        'YxlGt805lTA, 0.000, 10.000, "/m/0bt9lr"\n'
    )
    (root / "eval_segments.csv").write_text(
        SEGMENTS + '-0mjrMposBM, 120.000, 130.000, "/m/0bt9lr,/m/09x0r"\n'
    )
    names = [(0, "/m/09x0r", "Speech"), (1, "/m/0bt9lr", "Dog"), (2, "/t/dd00088", "Gush")]
    write_table(root / "class_labels_indices.csv", names, "index,mid,display_name")
    more = [(mid, name) for _, mid, name in names] + [("/m/053hz1", "Cheering")]
    write_table(root / "mid_to_display_name.tsv", more, delimiter="\t")
    strong = [
        ("--PJHxphWEs_30000", "4.5", "9.25", "/m/09x0r"),
        ("--PJHxphWEs_30000", "0.000", "2.5", "/t/dd00088"),
        ("--PJHxphWEs_30000", "2.627", "3.0", "/m/09x0r"),
        ("--PJHxphWEs_30000", "9.4", "9.9", "/t/dd00088"),
        ("b0RFKhbpFJA_30000", "0.5", "1.0", "/m/053hz1"),
    ]
    header = "segment_id,start_time_seconds,end_time_seconds,label"
    write_table(root / "audioset_train_strong.tsv", [tuple(header.split(",")), *strong], "", "\t")
    audio = [
        write_audio(root / "audio" / "Y--PJHxphWEs.wav", 0),
        write_audio(root / "audio" / "YYxlGt805lTA.flac", 1),
        write_audio(root / "audio" / "-0mjrMposBM_120.000.wav", 2),
        write_audio(root / "audio" / "b0RFKhbpFJA_30000_40000.ogg", 3),
    ]
    clips = (
        Expected("audioset-train/--PJHxphWEs_30000", 0, "youtube:--PJHxphWEs", "train",
                 labels=("Speech", "Gush")),
        Expected("audioset-train/YxlGt805lTA_0", 1, "youtube:YxlGt805lTA", "train",
                 labels=("Dog",)),
        Expected("audioset-test/-0mjrMposBM_120000", 2, "youtube:-0mjrMposBM", "test",
                 labels=("Dog", "Speech")),
        Expected("audioset-train/b0RFKhbpFJA_30000", 3, "youtube:b0RFKhbpFJA", "train",
                 labels=("Cheering",)),
    )  # fmt: skip
    return Layout(
        clips, root / "class_labels_indices.csv", audio[0], ("mid,", "id,"), ("", ""),
        extra={"strong": root / "audioset_train_strong.tsv", "train": train},
    )  # fmt: skip


def fsd50k(root: Path) -> Layout:
    truth = root / "FSD50K.ground_truth"
    dev = [
        (64760, "Electric_guitar,Guitar,Plucked_string_instrument", "/m/a,/m/b,/m/c", "train"),
        (16399, "Gunshot_and_gunfire", "/m/d", "val"),
    ]
    table = write_table(truth / "dev.csv", dev, "fname,labels,mids,split")
    write_table(truth / "eval.csv", [(37199, "Keyboard_(musical)", "/m/e")], "fname,labels,mids")
    audio = [
        write_audio(root / "FSD50K.dev_audio" / f"{row[0]}.wav", i) for i, row in enumerate(dev)
    ]
    write_audio(root / "FSD50K.eval_audio" / "37199.wav", 2)
    clips = (
        Expected("fsd50k-train/64760", 0, "freesound:64760", "train",
                 labels=("Electric guitar", "Guitar", "Plucked string instrument")),
        Expected("fsd50k-validation/16399", 1, "freesound:16399", "validation",
                 labels=("Gunshot, gunfire",)),
        Expected("fsd50k-test/37199", 2, "freesound:37199", "test",
                 labels=("Keyboard (musical)",)),
    )  # fmt: skip
    labels = '"Electric_guitar,Guitar,Plucked_string_instrument"'
    line = f'64760,{labels},"/m/a,/m/b,/m/c",train\n'
    return Layout(
        clips, table, audio[0], ("labels", "classes"), (labels, ""), (line, line * 2),
        {"eval": truth / "eval.csv"},
    )  # fmt: skip


def gtzan(root: Path) -> Layout:
    names = ("blues.00000", "jazz.00054")
    folder = root / "genres_original"
    audio = [
        write_audio(folder / name.split(".")[0] / f"{name}.wav", i) for i, name in enumerate(names)
    ]
    clips = [
        Expected(f"gtzan-{name}", i, f"gtzan:{name}", labels=(name.split(".")[0],))
        for i, name in enumerate(names)
    ]
    return Layout(tuple(clips), folder, audio[0], ("", ""), ("", ""))
