"""What the verbs that use a model take: audio files, folders and patterns, and lines of text."""

import argparse
import glob
import json
import os
from collections.abc import Callable, Iterable

from clapjax.cli.show import complain, progress

KINDS = {
    "clap": "a CLAP model, which `clapjax classify` and `clapjax embed` take",
    "tagger": "a tagger, which `clapjax tag` takes",
    "captioner": "a captioner, which `clapjax caption` takes",
}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M, --tokenizer NAME, --batch_size N."""
    parser.add_argument(
        "--model",
        required=True,
        help="workdir, export, Hugging Face folder or hub id, LAION .pt file or BLAT folder",
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="hub id or folder; default: the model's own"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: 16)")


def load_clap(args: argparse.Namespace, towers: str = "both"):
    """The model that `add_model_arguments` names, as `clapjax.load` gives it.

    Raises:
      ValueError: as `clapjax.load`; or the model is a tagger or a captioner.
    """
    from clapjax.api import load
    from clapjax.inference import Captioner, Clap

    model = load(args.model, batch_size=args.batch_size, towers=towers, tokenizer=args.tokenizer)
    if isinstance(model, Captioner):
        raise ValueError(
            f"{args.model}: a captioner, which has no embeddings; `clapjax caption` writes with it"
        )
    if not isinstance(model, Clap):
        raise ValueError(
            f"{args.model}: a tagger, which has labels of its own and no embeddings; "
            "`clapjax tag` tells how probable they are"
        )
    return model


def load_kind(kind: str, source: str, batch_size: int, field: str, labels: str | None = None):
    """A model that must be a "clap", "tagger" or "captioner"; `field` names it.

    `labels`: a file of those of a tagger, as for `clapjax.load`.

    Raises:
      ValueError: as `clapjax.load`; or it is another one.
    """
    from clapjax import inference
    from clapjax.api import load

    task = "tagging" if kind == "tagger" else None
    model = load(source, batch_size=batch_size, task=task, labels=labels)
    if not isinstance(model, getattr(inference, kind.capitalize())):
        found = KINDS[type(model).__name__.lower()]
        raise ValueError(f"{source}: {found}; {field} needs {KINDS[kind].split(',')[0]}")
    return model


def add_long_arguments(parser: argparse.ArgumentParser) -> None:
    """--long MODE, --hop SECONDS."""
    parser.add_argument(
        "--long",
        choices=("truncate", "windows", "fusion", "whole"),
        help="audio longer than a clip: its middle, the mean of windows, feature fusion or, for "
        "BLAT, as it is (default: what the model was made for)",
    )
    parser.add_argument("--hop", type=float, help="seconds between windows of --long windows")


def find_audio(inputs: Iterable[str]) -> tuple[list[str], list[str]]:
    """Files, folders and patterns to files.

    Args:
      inputs: a file counts whatever it is called; of a folder, all files in it and below with a
        suffix of audio, by name; a pattern may have *, ?, [] and ** (any folders).

    Returns:
      (files, each once; one line about each input that gives none).
    """
    from clapjax.audio.files import AUDIO_SUFFIXES  # loads decoders

    files, problems = [], []
    for item in inputs:
        if os.path.isdir(item):
            found = sorted(
                os.path.join(folder, name)
                for folder, _, names in os.walk(item)
                for name in names
                if name.lower().endswith(AUDIO_SUFFIXES)
            )
            if not found:
                problems.append(
                    f"{item}: no audio files in this folder ({' '.join(AUDIO_SUFFIXES)})"
                )
        elif os.path.exists(item) or not glob.has_magic(item):
            found = [item]  # where it is missing, the decoder says so
        else:
            found = sorted(path for path in glob.glob(item, recursive=True) if os.path.isfile(path))
            if not found:
                problems.append(f"{item}: no file matches")
        files += found
    return list(dict.fromkeys(files)), problems


def audio_files(verb: str, inputs: Iterable[str]) -> tuple[list[str], bool]:
    """The files of `find_audio`, and whether all inputs gave some; the others are told of.

    Raises:
      ValueError: there is no file.
    """
    files, problems = find_audio(inputs)
    for problem in problems:
        complain(verb, problem)
    if not files:
        raise ValueError(f"no audio files to {verb}")
    return files, not problems


def what_is_heard(verb: str, doing: str, results: Iterable[tuple], count: int) -> dict:
    """{number of the file: its result} of (number, result or error); broken ones are told of."""
    found = {}
    for index, result in progress(results, count, doing):
        if isinstance(result, ValueError):
            complain(verb, result)
        else:
            found[index] = result
    return found


def status(files: list[str], whole: bool, found: dict) -> int:
    """Of a verb that hears files: 0, all are in the result; 1, some are not; 2, none is."""
    if not found:
        return 2
    return 0 if whole and len(found) == len(files) else 1


def print_labels(
    files: list[str], found: dict[int, dict], told: Callable[[dict], list[str]], as_json: bool
) -> None:
    """A line about each file: what is `told` of it, or all that was found as JSON."""
    width = max((len(printable(files[index])) for index in found), default=0)
    for index in sorted(found):
        name = printable(files[index])
        if as_json:
            print(json.dumps({"file": name, **found[index]}, ensure_ascii=False))
        else:
            print(name.ljust(width), *told(found[index]), sep="  ")


def printable(path: str) -> str:
    """A path as text that every file and terminal takes: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """--threshold X|R."""
    parser.add_argument(
        "--threshold",
        metavar="X|R",
        help="only what is there: a cosine, or the folder in which `clapjax eval` judged this "
        "model on a set with labels, which tells the cosine of the best F1",
    )


def read_threshold(given: str, model, template: str | None = None) -> dict:
    """{"threshold": cosine}; of results, with what else `calibrate` found.

    Raises:
      ValueError: neither a cosine nor a folder with such results of this model.
    """
    from clapjax.evaluation.calibration import read_calibration
    from clapjax.inference.store import model_fingerprint

    try:
        cosine = float(given)
    except ValueError:
        return read_calibration(given, model_fingerprint(model.config, model.variables), template)
    if not -1 <= cosine <= 1:
        raise ValueError(f"--threshold: a cosine is in -1 .. 1, not {given}")
    return {"threshold": cosine}
