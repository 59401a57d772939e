"""The command line: `clapjax VERB`, also `python -m clapjax VERB`."""

import argparse
import contextlib
import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator

from clapjax.cli.compiled import add_cache_argument, keep_compiled
from clapjax.cli.outputs import check_outputs
from clapjax.cli.show import plain_warnings

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
    "embed": ("clapjax.cli.embed", "embeddings of files, folders and texts, into one file"),
    "classify": ("clapjax.cli.classify", "zero-shot labels for audio files"),
    "tag": ("clapjax.cli.tag", "labels of audio files, by a tagger"),
    "caption": ("clapjax.cli.caption", "captions of audio files, under the guidance of tags"),
    "bootstrap": ("clapjax.cli.bootstrap", "captions made from tags, and what CLAP learns of them"),
    "index": (
        "clapjax.cli.index",
        "makes an embedded collection of any size quick to search",
    ),
    "search": ("clapjax.cli.search", "what an embedded collection holds that fits a text"),
    "import": ("clapjax.cli.importing", "a checkpoint of LAION-CLAP, BLAT or Hugging Face in"),
    "export": ("clapjax.cli.exporting", "a trained model out, for transformers or as one folder"),
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
)


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit status; bad input is one line on stderr and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="clapjax", description="Train and serve language-audio (CLAP) models in JAX."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (_, text) in VERBS.items():
        verbs.add_parser(verb, help=text, add_help=False)
    verb = parser.parse_args(argv[:1]).verb
    try:
        module = importlib.import_module(VERBS[verb][0])
    except ModuleNotFoundError as error:
        print(f"clapjax {verb}: {_said(error)}", file=sys.stderr)
        return 2
    sub = argparse.ArgumentParser(
        prog=f"clapjax {verb}",
        description=VERBS[verb][1],
        epilog=f"example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(sub)
    if verb in COMPILE:
        add_cache_argument(sub)
    try:
        args, overrides = sub.parse_known_args(argv[1:])
        args.command = shlex.join(["clapjax", *argv])
        stray = [item for item in overrides if not item.startswith("--config.")]
        if stray or (overrides and not hasattr(args, "config")):
            sub.error(f"unknown arguments: {' '.join(stray or overrides)}")
        check_outputs(verb, args)
        with plain_warnings(verb), no_interrupt_lost():
            if verb in COMPILE and verb != "train":  # which must find its other processes first
                keep_compiled(args)
            return module.run(args, overrides)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if isinstance(error, ImportError) and error.name is None:
            raise
        status = _status(argv, error)
        more = "; with room for it, the same command goes on" if status == os.EX_TEMPFAIL else ""
        print(f"clapjax {verb}: {_said(error)}{more}", file=sys.stderr)
        return status
    except KeyboardInterrupt:
        print(f"clapjax {verb}: interrupted", file=sys.stderr)
        return 130


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
    if str(error).startswith("No module named"):  # Python's own words
        return f"{error}; pip install 'clapjax[train]' brings what is not for inference alone"
    return str(error)


def _status(argv: list[str], error: Exception) -> int:
    """2; but 75, "start me again", of what goes on when there is room on the disk again."""
    from clapjax.data.paths import FULL

    verbs = ("train", "finetune", "bootstrap", "records")
    goes_on = argv[0] in verbs or argv[:2] == ["captions", "generate"]
    return os.EX_TEMPFAIL if goes_on and getattr(error, "errno", None) in FULL else 2
