"""The command line: `clapjax VERB`, also `python -m clapjax VERB`."""

import argparse
import contextlib
import importlib
import os
import re
import select
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import metadata
from typing import NoReturn

import clapjax
from clapjax.cli.compiled import add_cache_argument, keep_compiled
from clapjax.cli.outputs import TABLES, check_outputs
from clapjax.cli.show import plain_warnings
from clapjax.data.bucket_errors import telling_of
from clapjax.data.paths import SCHEMES
from clapjax.plain import closest

IN_BUCKETS = re.compile(rf"(?:{'|'.join(SCHEMES)})://[^\s'\",)]+")  # places, within arguments
NO_MEMORY = "RESOURCE_EXHAUSTED"  # how XLA's error begins

# Verb -> (module with add_arguments and run, help line).
VERBS = {
    "demo": ("clapjax.cli.demo", "the whole way on the embedded sounds, in minutes"),
    "records": ("clapjax.cli.records", "build, describe, verify or edit data sets of records"),
    "captions": (
        "clapjax.cli.captions",
        "wrong orders of captions; captions of labels, of sounds",
    ),
    "train": ("clapjax.cli.train", "train or resume; the same command again continues"),
    "finetune": ("clapjax.cli.finetune", "tune on labels, fold by fold, beside a probe"),
    "config": ("clapjax.cli.fields", "every field of a config: value, default and meaning"),
    "plan": ("clapjax.cli.plan", "what a config needs on a TPU slice, or takes on this machine"),
    "eval": ("clapjax.cli.evaluate", "models on benchmarks: results.json and report.html"),
    "report": ("clapjax.cli.report", "results side by side: one page, or a Markdown table"),
    "embed": ("clapjax.cli.embed", "embeddings of files, folders and texts, in parts or one file"),
    "classify": ("clapjax.cli.classify", "zero-shot labels for audio files"),
    "tag": ("clapjax.cli.tag", "labels of audio files, by a tagger"),
    "caption": ("clapjax.cli.caption", "captions of audio files, under the guidance of tags"),
    "bootstrap": ("clapjax.cli.bootstrap", "captions made from tags, and what CLAP learns of them"),
    "index": ("clapjax.cli.index", "makes an embedded collection of any size quick to search"),
    "search": ("clapjax.cli.search", "what an embedded collection holds that fits a text"),
    "app": ("clapjax.cli.app", "a page to search, label and compare orders in, by ear"),
    "import": ("clapjax.cli.importing", "a checkpoint of LAION-CLAP, BLAT or Hugging Face in"),
    "export": ("clapjax.cli.exporting", "a trained model out, for transformers or as one folder"),
    "completion": ("clapjax.cli.completion", "a script by which a shell completes these words"),
}
# Those that keep what they compile. Not `plan`, which tells how long compiling takes.
COMPILE = (
    "demo",
    "bootstrap",
    "train",
    "finetune",
    "eval",
    "embed",
    "classify",
    "tag",
    "caption",
    "search",
    "app",
)


BEFORE_VERB = ("-h", "--help", "--version")


class Parser(argparse.ArgumentParser):
    """One that names the closest of the words that it knows."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        unknown = re.fullmatch(r"unknown arguments: (--[^ =]+).*", message)
        if choice:
            given, known = choice[1], [word.strip("' ") for word in choice[2].split(",")]
        elif unknown:
            given, known = unknown[1], re.findall(r"--\w+", self.format_help())
        if (choice or unknown) and (meant := closest(given, known)):
            message += f"; did you mean {meant}?"
        super().error(message)


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit status; bad input is one line on stderr and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(
        prog="clapjax", description="Train and serve language-audio (CLAP) models in JAX."
    )
    parser.add_argument("--version", action="version", version=_versions(argv))
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (_, text) in VERBS.items():
        verbs.add_parser(verb, help=text, add_help=False)
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    if argv[0].startswith("-") and argv[0] not in BEFORE_VERB:  # argparse would miss VERB
        parser.error(f"unknown arguments: {argv[0]} (those of a verb come after it)")
    verb = parser.parse_args(argv[:1]).verb
    try:
        status = run_verb(verb, argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        for stream in _closed():  # of what is left to be written there, Python would complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 128 + signal.SIGPIPE


def verb_parser(verb: str) -> Parser:
    """The parser of what comes after a verb."""
    module = importlib.import_module(VERBS[verb][0])
    sub = Parser(
        prog=f"clapjax {verb}",
        description=VERBS[verb][1],
        epilog=f"example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(sub)
    if verb in COMPILE:
        add_cache_argument(sub)
    for one in (sub, *actions(sub).values()):
        one.add_argument(
            "--debug",
            action="store_true",
            default=False if one is sub else argparse.SUPPRESS,
            help="show where in the code an error is from",
        )
    return sub


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a verb's actions by name; {} where it has none."""
    nested = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(nested[0].choices) if nested else {}


def run_verb(verb: str, argv: list[str]) -> int:
    """Runs a verb, of which errors are told; returns the exit status."""
    try:
        sub = verb_parser(verb)
    except ModuleNotFoundError as error:
        print(f"clapjax {verb}: {_said(error)}", file=sys.stderr)
        return 2
    args, overrides = sub.parse_known_args(argv[1:])
    args.command = shlex.join(["clapjax", *argv])
    stray = [item for item in overrides if not item.startswith("--config.")]
    if stray or (overrides and not hasattr(args, "config")):
        sub.error(f"unknown arguments: {' '.join(stray or overrides)}")
    try:
        check_said(sub, args)
        check_outputs(verb, args)
        with plain_warnings(verb), no_interrupt_lost(), telling_of(_in_buckets(argv)):
            if verb in COMPILE and verb != "train":  # which must find its other processes first
                keep_compiled(args)
            return importlib.import_module(VERBS[verb][0]).run(args, overrides)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if isinstance(error, ImportError) and error.name is None:
            raise
        if isinstance(error, BrokenPipeError) and _closed():
            raise
        if args.debug:
            traceback.print_exc()
        status = _status(argv, args, error)
        more = ""
        if status == os.EX_TEMPFAIL:
            when = "then" if getattr(error, "passes", False) else "with room for it"
            more = f"; {when}, the same command goes on"
        print(f"clapjax {verb}: {_said(error)}{more}", file=sys.stderr)
        return status
    except (MemoryError, RuntimeError) as error:
        if args.debug or not (isinstance(error, MemoryError) or NO_MEMORY in str(error)):
            raise
        print(f"clapjax {verb}: out of memory; {_smaller(args)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"clapjax {verb}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _in_buckets(argv: list[str]) -> list[str]:
    """The places in buckets that a command line names."""
    return list(dict.fromkeys(place for word in argv for place in IN_BUCKETS.findall(word)))


def check_said(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raises ValueError where an argument is "", as shells make of a variable that is not set.

    It would be taken as one that was left out.
    """
    action = actions(parser).get(getattr(args, "action", None))
    for one in (*parser._actions, *(action._actions if action else ())):
        if getattr(args, one.dest, None) == "" != one.default:
            name = one.option_strings[-1] if one.option_strings else one.dest
            raise ValueError(f"{name} is empty; leave it out, or say what it is")


def _smaller(args: argparse.Namespace) -> str:
    """What to do where memory is out."""
    if hasattr(args, "batch_size"):
        return f"take less at once: --batch_size {max(1, args.batch_size // 2)}"
    if hasattr(args, "config"):
        return (
            "take less at once: --config.rows_per_device=N, the rows that a device has in memory "
            "(the batch stays as it is), and see `clapjax plan`"
        )
    return "take less at once, or a machine with more"


def _closed() -> list:
    """Of stdout and stderr, what goes to a pipe that nobody reads any more."""

    def is_closed(stream) -> bool:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    return [stream for stream in (sys.stdout, sys.stderr) if is_closed(stream)]


def _versions(argv: list[str]) -> str:
    """What --version prints; "" where it is not asked for, as finding out takes a moment."""
    if argv[:1] != ["--version"]:
        return ""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"clapjax {clapjax.__version__} (jax {metadata.version('jax')}, Python {python})"


@contextlib.contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Within it a Ctrl-C that comes where Python ignores exceptions comes again a moment later.

    As in a callback of the garbage collector, of which JAX has one, or in a `__del__`.
    """
    before, again = sys.unraisablehook, None

    def ignored(found) -> None:
        nonlocal again
        if not issubclass(found.exc_type, KeyboardInterrupt):
            return before(found)
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = before
        if again is not None:
            again.cancel()


def _said(error: Exception) -> str:
    """What is printed of an error; of the system's the file and the reason, without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and "pip install" not in str(error):
        return f"{error}; pip install 'clapjax[train]' brings what is not for inference alone"
    return str(error)


def _status(argv: list[str], args: argparse.Namespace, error: Exception) -> int:
    """2; but 75, "start me again", of what goes on when the disk has room, a bucket answers."""
    from clapjax.data.paths import FULL

    verbs = ("train", "finetune", "bootstrap", "records")
    goes_on = argv[0] in verbs or argv[:2] == ["captions", "generate"]
    in_parts = argv[0] == "embed" and not args.out.endswith(TABLES)
    later = getattr(error, "errno", None) in FULL or getattr(error, "passes", False)
    return os.EX_TEMPFAIL if later and (goes_on or in_parts) else 2
