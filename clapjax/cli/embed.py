"""`clapjax embed`."""

import argparse
import functools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain

from clapjax.cli.inputs import (
    Files,
    add_file_arguments,
    add_long_arguments,
    add_model_arguments,
    find_files,
    is_pipe,
    load_clap,
    printable,
)
from clapjax.cli.outputs import TABLES
from clapjax.cli.show import Progress, complain
from clapjax.plain import each_line

EXAMPLE = "clapjax embed --model laion/clap-htsat-unfused sounds/ 'more/**/*.flac' --out embedded"
PART_SIZE, PART_SIZE_OF_WINDOWS = 1000, 100  # inputs
# What others that embed must know of a command line.
FOR_WORKERS = ("model", "tokenizer", "batch_size", "long", "hop", "windows")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M INPUT... --files LIST --text T --texts F --out O, and how long audio is heard."""
    add_model_arguments(parser)
    add_file_arguments(parser)
    parser.add_argument("--text", action="append", default=[], help="a text; may be repeated")
    parser.add_argument("--texts", metavar="FILE", help="a file with a text on each line")
    parser.add_argument(
        "--out",
        required=True,
        help="folder of Parquet parts, each written when it is done: the same command again goes "
        "on; or, of few inputs, a .npz or .parquet file, written at the end",
    )
    parser.add_argument(
        "--part_size",
        type=int,
        metavar="N",
        help=f"inputs of a part (default: {PART_SIZE}, with --windows {PART_SIZE_OF_WINDOWS})",
    )
    parser.add_argument(
        "--runner", default="", help="of Apache Beam, which embeds the parts on other machines"
    )
    parser.add_argument("--beam_options", default="", help="flags of Beam, in one string")
    add_long_arguments(parser)
    parser.add_argument(
        "--windows",
        type=float,
        metavar="SECONDS",
        help="one embedding every so many seconds, with its times, instead of one a file",
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes a file or parts; status 1 where some input is not in it, 2 where none is."""
    if args.windows is not None and (args.long or args.hop):
        raise ValueError("--windows is instead of --long and --hop")
    if args.part_size is not None and args.part_size < 1:
        raise ValueError(f"--part_size must be positive, not {args.part_size}")
    one_file = os.fspath(args.out).endswith(TABLES)
    if one_file and args.part_size is not None:
        raise ValueError(f"--part_size is of a folder of parts; {args.out} is one file")
    if args.beam_options and not args.runner:
        raise ValueError("--beam_options goes with --runner")
    if args.runner and one_file:
        raise ValueError(f"--runner writes parts: name a folder, not {args.out}")
    texts = find_texts(args)
    files = find_files("embed", args)
    if files.count == 0 and texts.count == 0:
        raise ValueError("nothing to embed; name files, folders, --files, --text or --texts")
    work = start(args, files, texts)
    items = chain((("audio", file) for file in files), (("text", text) for text in texts))
    with work.shown or nullcontext():
        rows, inputs, left_out = (into_file if one_file else into_parts)(work, items)
    if not rows:
        raise ValueError(f"none of the inputs could be embedded; {args.out} is not written")
    some = f"{inputs - left_out} of " if left_out else ""
    print(f"{args.out}: {_counted(rows, 'embedding')} of {some}{_counted(inputs, 'input')}")
    if left_out:
        complain("embed", f"{_counted(left_out, 'input')} left out")
    return 1 if left_out or not files.whole else 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Texts:
    """The texts of a command line, of which those of a file are not held."""

    given: list[str]
    file: str | None
    count: int | None  # None: nobody knows

    def __iter__(self) -> Iterator[str]:
        return chain(self.given, () if self.file is None else each_line(self.file))


def find_texts(args: argparse.Namespace) -> Texts:
    """The texts of --text and --texts.

    Raises:
      ValueError: one is empty, or no UTF-8; or there are none in the file.
    """
    for text in args.text:
        if not text.strip() or printable(text) != text:
            raise ValueError(f"--text {printable(text)!r}: there are no words in it, or no UTF-8")
    count = len(args.text)
    if args.texts is not None and is_pipe(args.texts):
        count = None
    elif args.texts is not None:
        lines = sum(1 for _ in each_line(args.texts))
        if not lines:
            raise ValueError(f"{args.texts}: no lines of text in it")
        count += lines
    return Texts(args.text, args.texts, count)


@dataclass(frozen=True)
class Work:
    """A model, and what is to be done with it."""

    args: argparse.Namespace
    model: object  # a `clapjax.inference.Clap`
    fingerprints: dict[str, str]
    shown: Progress | None  # None: nobody looks on

    def step(self, inputs: int = 1) -> None:
        """So many inputs are done."""
        for _ in range(inputs if self.shown else 0):
            self.shown.step()

    def skip(self, inputs: int) -> None:
        """So many inputs need not be done."""
        if self.shown:
            self.shown.skip(inputs)


def start(args: argparse.Namespace, files: Files, texts: Texts) -> Work:
    """Loads what is needed of the model."""
    from clapjax.inference.store import fingerprint

    towers = [t for t, found in (("audio", files), ("text", texts)) if found.count != 0]
    model = load_clap(args, "both" if len(towers) == 2 else towers[0])
    clip = model.clip_seconds
    if args.windows is not None and not 0 < args.windows <= clip:
        raise ValueError(f"--windows must be in 0 .. {clip:g} s (a clip), not {args.windows:g}")
    prints = {tower: fingerprint(model.config, model.variables, tower) for tower in towers}
    known = None not in (files.count, texts.count)
    total = files.count + texts.count if known else None
    return Work(args, model, prints, None if args.runner else Progress(total, "embedding"))


def into_file(work: Work, items: Iterable) -> tuple[int, int, int]:
    """Embeds all inputs and writes one file: (rows, inputs, inputs left out)."""
    from clapjax.inference.store import check_output, write_table

    items = list(items)
    check_output(work.args.out, [printable(name) for _, name in items])
    table, left_out = embed(work, items)
    if table is None:
        return 0, len(items), len(left_out)
    write_table(work.args.out, table)
    return len(table.names), len(items), len(left_out)


def into_parts(work: Work, items: Iterable) -> tuple[int, int, int]:
    """Writes the parts that lack: (rows, inputs, inputs left out) of all of them."""
    from clapjax.inference.parts import run_on_beam, write_parts

    args, model = work.args, work.model
    size = args.part_size or (PART_SIZE if args.windows is None else PART_SIZE_OF_WINDOWS)
    long = None if args.windows is not None else args.long or model.default_long
    settings = {"long": long, "hop": args.hop, "windows": args.windows, "tokenizer": args.tokenizer}
    settings |= {"dtype": model.dtype}
    found = args.out, items, size, work.fingerprints, settings
    if args.runner:
        run = functools.partial(run_on_beam, runner=args.runner, options=args.beam_options)
        totals = write_parts(*found, embed=OnWorkers.of(work), skip=work.skip, run=run)
    else:
        totals = write_parts(*found, embed=functools.partial(embed, work), skip=work.skip)
    if totals.done_before:
        before = f"{totals.done_before} of {totals.inputs} inputs were done before"
        complain("embed", f"{args.out}: {before}")
    if parts := totals.left_out_in:
        again = f"what is left out in {parts[0]}{' and others' if parts[1:] else ''}"
        complain("embed", f"{args.out}: {again} is tried again when that part is removed")
    return totals.rows, totals.inputs, totals.left_out


@dataclass(frozen=True)
class OnWorkers:
    """`embed` in another process, which loads the model once."""

    told: str  # what it needs of the command line, as JSON
    fingerprints: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, work: Work) -> "OnWorkers":
        """That of this command."""
        told = {name: getattr(work.args, name) for name in FOR_WORKERS} | {
            "dtype": work.model.dtype
        }
        return cls(json.dumps(told), tuple(work.fingerprints.items()))

    def __call__(self, items: list[tuple[str, str]]) -> tuple:
        return embed(_work(self), items)


@functools.lru_cache(maxsize=1)
def _work(told: OnWorkers) -> Work:
    args, fingerprints = argparse.Namespace(**json.loads(told.told)), dict(told.fingerprints)
    towers = "both" if len(fingerprints) == 2 else next(iter(fingerprints))
    return Work(args, load_clap(args, towers), fingerprints, None)


def embed(work: Work, items: list[tuple[str, str]]) -> tuple:
    """Embeds inputs, files before texts: (their `Table`, names of those left out).

    The table is None where none could be embedded; complains about broken ones.
    """
    import numpy as np

    from clapjax.inference.store import Table

    model, windows = work.model, work.args.windows
    files = [name for kind, name in items if kind == "audio"]
    texts = [name for kind, name in items if kind == "text"]
    found = {}  # (times (N, 2) s, vectors (N, D)) by the number of the file
    for index, result in each_heard(work, files):
        work.step()
        if isinstance(result, ValueError):
            complain("embed", result)
        else:
            found[index] = result
    kept = sorted(found)
    names = [printable(files[index]) for index in kept for _ in found[index][0]]
    times, vectors = [found[index][0] for index in kept], [found[index][1] for index in kept]
    kinds = ["audio"] * len(names) + ["text"] * len(texts)
    if texts:
        vectors.append(model.embed_text(texts))
        times.append(np.full((len(texts), 2), np.nan))
        work.step(len(texts))
    left_out = [printable(file) for index, file in enumerate(files) if index not in found]
    if not kinds:
        return None, left_out
    table = Table(
        vectors=np.concatenate(vectors),
        names=names + texts,
        kinds=kinds,
        model=str(work.args.model),
        fingerprints=work.fingerprints,
        times=None if windows is None else np.concatenate(times),
    )
    return table, left_out


def each_heard(work: Work, files: list[str]) -> Iterator[tuple]:
    """(number of the file, (times (N, 2) s, vectors (N, D)) or its error)."""
    import numpy as np

    args, model = work.args, work.model
    if not files:
        return
    if args.windows is not None:
        yield from model.each_windows(files, args.windows)
        return
    for index, result in model.each_audio(files, long=args.long, hop=args.hop):
        broken = isinstance(result, ValueError)
        yield index, result if broken else (np.full((1, 2), np.nan), result[None])
