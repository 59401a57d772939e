"""What the verbs that use a model take: audio files, folders and patterns, and lines of text."""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from clapjax.cli.files import Survey, each_file, each_listed
from clapjax.cli.show import Progress, complain, in_line, say
from clapjax.plain import chunks

FILES_AT_ONCE = 1000  # heard together: what one of them waits for, the others wait for

KINDS = {
    "clap": "a CLAP model, which `clapjax classify` and `clapjax embed` take",
    "tagger": "a tagger, which `clapjax tag` takes",
    "captioner": "a captioner, which `clapjax caption` takes",
}


def add_model_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--model M, --tokenizer NAME, --batch_size N, --device D, --dtype T."""
    parser.add_argument(
        "--model",
        required=required,
        help="workdir, export, Hugging Face folder or hub id, LAION .pt file or BLAT folder",
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="hub id or folder; default: the model's own"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: 16)")
    parser.add_argument("--device", help="cpu, gpu, tpu or gpu:1 (default: the first accelerator)")
    parser.add_argument(
        "--dtype",
        help="of matrix products, float32 or bfloat16 (default: bfloat16 on GPUs and TPUs, float32 "
        "on CPUs)",
    )


def load_clap(args: argparse.Namespace, towers: str = "both"):
    """The model that `add_model_arguments` names, as `clapjax.load` gives it.

    Raises:
      ValueError: as `clapjax.load`; or the model is a tagger or a captioner.
    """
    from clapjax.api import load
    from clapjax.inference import Captioner, Clap

    place = {name: getattr(args, name, None) for name in ("device", "dtype")}  # not of finetune
    found = {"batch_size": args.batch_size, "towers": towers, "tokenizer": args.tokenizer}
    model = load(args.model, **found, **place)
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


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT..., --files LIST."""
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="file, folder or 'pattern'")
    parser.add_argument(
        "--files",
        metavar="LIST",
        help="a file with the path of a file on each line, or - for what comes in",
    )


@dataclass(frozen=True)
class Files:
    """The audio files of a command line, of which none are held."""

    inputs: list[str]
    listed: str | None
    count: int | None  # None: nobody knows
    whole: bool  # whether all inputs gave some

    def __iter__(self) -> Iterator[str]:
        listed = () if self.listed is None else each_listed(self.listed)
        return chain(each_file(self.inputs), listed)


def find_files(verb: str, args: argparse.Namespace) -> Files:
    """The files of `add_file_arguments`; tells which inputs give none, and what is left out.

    Raises:
      OSError: the list cannot be read.
    """
    survey = Survey()
    count = sum(1 for _ in each_file(args.inputs, survey))
    for problem in survey.problems:
        complain(verb, problem)
    if str(survey):
        complain(verb, f"left out: {survey}")
    if args.files is not None and (args.files == "-" or is_pipe(args.files)):
        count = None
    elif args.files is not None:
        count += sum(1 for _ in each_listed(args.files))
    return Files(args.inputs, args.files, count, not survey.problems)


def is_pipe(file: str) -> bool:
    """Whether a list can be read once alone."""
    return os.path.exists(file) and not os.path.isfile(file)


def need_files(verb: str, args: argparse.Namespace) -> Files:
    """`find_files`, which must be some.

    Raises:
      ValueError: there is no file.
    """
    files = find_files(verb, args)
    if files.count == 0:
        raise ValueError(f"no audio files to {verb}")
    return files


def print_each(
    verb: str,
    doing: str,
    files: Files,
    hear: Callable[[list[str]], Iterable[tuple[int, object]]],
    lines: Callable[[str, object], list[str]],
    at_once: int = FILES_AT_ONCE,
) -> int:
    """Prints lines about each file, in their order, as soon as it and those before are heard.

    Args:
      verb: whose name complaints about broken files begin with.
      doing: "classifying", for the progress.
      files: the files.
      hear: from some files to (number of the file among them, result or error).
      lines: of the name of a file and its result.
      at_once: files that `hear` is given.

    Returns:
      The exit status: 0, all inputs are told of; 1, some are not; 2, none is.
    """
    count = told = 0
    with Progress(files.count, doing) as shown:
        for some in chunks(files, at_once):
            count += len(some)
            found, following = {}, 0
            for index, result in hear(some):
                shown.step()
                found[index] = result
                if isinstance(result, ValueError):
                    complain(verb, in_line(str(result)))
                while following in found:
                    result = found.pop(following)
                    if not isinstance(result, ValueError):
                        told += 1
                        for line in lines(printable(some[following]), result):
                            say(line)
                    following += 1
    if not told:
        return 2
    return 0 if files.whole and told == count else 1


def label_lines(name: str, found: dict, words: Callable[[dict], list[str]], as_json: bool) -> list:
    """A line about a file: the words for what was found, or all of it as JSON."""
    if as_json:
        return [json.dumps({"file": name, **found}, ensure_ascii=False)]
    return ["  ".join([in_line(name), *words(found)])]


def printable(path: str) -> str:
    r"""A path as text that every file and terminal takes: a byte that is not UTF-8 becomes \xe9."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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
    from clapjax.data.paths import as_path
    from clapjax.evaluation.calibration import read_calibration
    from clapjax.inference.store import model_fingerprint

    try:
        cosine = float(given)
    except ValueError:
        if not as_path(given).exists():
            said = "neither a cosine nor a folder of `clapjax eval`"
            raise ValueError(f"--threshold {given}: {said}") from None
        return read_calibration(given, model_fingerprint(model.config, model.variables), template)
    if not -1 <= cosine <= 1:
        raise ValueError(f"--threshold: a cosine is in -1 .. 1, not {given}")
    return {"threshold": cosine}
