"""What the command line does around its verbs."""

import gc
import importlib
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import gcsfs.retry
import jax
import pytest

import clapjax
from clapjax.cli.main import VERBS, actions, main, verb_parser
from tests.cli.status import main_status


@pytest.fixture
def verb(monkeypatch):
    """verb(run): makes the verb "try" of a function, with --batch_size or a config."""

    def make(run, *options: str) -> None:
        def add_arguments(parser) -> None:
            for option in options:
                parser.add_argument(option, type=int, default=16)

        module = SimpleNamespace(EXAMPLE="", add_arguments=add_arguments, run=run)
        monkeypatch.setitem(sys.modules, "trying", module)
        monkeypatch.setitem(VERBS, "try", ("trying", ""))

    return make


def test_version(capsys):
    assert main_status("--version") == 0
    python = ".".join(map(str, sys.version_info[:3]))
    said = f"clapjax {clapjax.__version__} (jax {jax.__version__}, Python {python})\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("embd", "embed"),
        ("clasify", "classify"),
        ("records biuld", "build"),
        ("export x --to clapajx", "clapjax"),
        ("show --workdri W", None),
        ("--versoin", "--version"),
        ("--vers", "--version"),
        ("embed --out o --modle m --model m", "--model"),
        ("completion bsah", "bash"),
    ],
)
def test_the_closest_word_is_named(words, meant, capsys):
    assert main_status(*words.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (f"; did you mean {meant}?" in error) if meant else ("did you mean" not in error)


def test_without_a_verb_all_are_told(capsys):
    assert main([]) == 2
    told = capsys.readouterr().err
    assert all(f"\n    {verb}" in told for verb in VERBS)


def test_what_is_of_a_verb_comes_after_it(capsys):
    """Fails before: VERB was called missing, where it was named behind."""
    assert main_status("--debug", "embed") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "clapjax: error: unknown arguments: --debug (those of a verb come after it)"


def test_an_argument_that_is_empty_is_not_one_that_was_left_out(capsys):
    """Fails before: `--threshold "$UNSET"` was heard as no threshold, `app --index ""` as none."""
    assert main(["classify", "--model", "m", "--labels", "a,b", "--threshold", "", "x.wav"]) == 2
    assert main(["app", "--index", ""]) == 2
    assert main(["captions", "negate", "--input", "", "--output", "o"]) == 2
    assert main(["embed", "--model", "m", "--out", "o", "--runner", ""]) == 2  # is its default
    *empty, other = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in empty] == [
        f"{name} is empty; leave it out, or say what it is"
        for name in ("--threshold", "--index", "--input")
    ]
    assert "nothing to embed" in other


HELP = """
import sys
from clapjax.cli.main import VERBS, verb_parser
for verb in VERBS:
    verb_parser(verb).format_help()
heavy = {"jax", "scipy", "tensorflow", "torch", "matplotlib", "gradio", "ml_collections"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_help_waits_for_no_library(quick_env):
    """Fails before: `train --help` and six others imported JAX, TensorFlow's kin and SciPy."""
    done = subprocess.run([sys.executable, "-c", HELP], env=quick_env, capture_output=True)
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


def test_debug_shows_where_an_error_is_from(verb, capsys):
    def run(args, overrides) -> int:
        raise ValueError("no such thing")

    verb(run)
    assert main(["try"]) == 2
    assert capsys.readouterr().err == "clapjax try: no such thing\n"
    assert main(["try", "--debug"]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("Traceback (most recent call last):") and 'raise ValueError("no' in error
    )
    assert error.endswith("clapjax try: no such thing\n")
    for words in (["--debug", "info", "d"], ["info", "d", "--debug"]):
        assert verb_parser("records").parse_args(words).debug


@pytest.mark.parametrize(
    ("error", "options", "advice"),
    [
        (MemoryError(), ["--batch_size"], "take less at once: --batch_size 8"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
            ["--config"],
            "take less at once: --config.rows_per_device=N, ",
        ),
        (MemoryError(), [], "take less at once, or a machine with more"),
    ],
)
def test_out_of_memory_says_what_to_change(verb, capsys, error, options, advice):
    def run(args, overrides) -> int:
        raise error

    verb(run, *options)
    assert main(["try"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"clapjax try: out of memory; {advice}") and said.count("\n") == 1
    with pytest.raises(type(error)):
        main(["try", "--debug"])


def test_what_is_no_lack_of_memory_is_not_called_so(verb):
    def run(args, overrides) -> int:
        raise RuntimeError("INTERNAL: a bug")

    verb(run)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["try"])


PRINTS = """
import sys
from types import SimpleNamespace
from clapjax.cli.entry import entry
from clapjax.cli.main import VERBS

def run(args, overrides):
    if sys.argv[2] == "--other":
        raise BrokenPipeError(32, "Broken pipe", "a server")
    print("\\udce9 is the first line")
    for number in range(100_000):
        print(number)
    return 0

def add_arguments(parser):
    parser.add_argument("--other", action="store_true")
    parser.add_argument("--lines", action="store_true")

sys.modules["trying"] = SimpleNamespace(EXAMPLE="", add_arguments=add_arguments, run=run)
VERBS["try"] = "trying", ""
sys.exit(entry())
"""


def test_a_closed_pipe_is_quiet_and_one_to_elsewhere_is_not(quick_env):
    """And a name that is not UTF-8 is printed rather than the end of it all."""
    program = [sys.executable, "-c", PRINTS, "try"]
    pipes = {"env": quick_env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*program, "--lines"], **pipes) as process:
        first = process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 128 + signal.SIGPIPE)
    assert first == "\\udce9 is the first line\n"
    done = subprocess.run([*program, "--other"], **pipes)
    assert done.returncode == 2 and done.stderr == "clapjax try: a server: Broken pipe\n"


def test_completion_of_verbs_actions_and_options(capsys):
    """By a bash, of what the parsers know."""
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def complete(*words: str) -> list[str]:
        line = f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}"
        program = f"{script}\n{line}; _clapjax; echo ${{COMPREPLY[@]}}"
        return subprocess.run(
            ["bash", "-c", program], capture_output=True, text=True
        ).stdout.split()

    assert complete("clapjax", "") == list(VERBS)
    assert complete("clapjax", "em") == ["embed"]
    assert complete("clapjax", "records", "") == list(actions(verb_parser("records")))
    assert complete("clapjax", "records", "ann") == ["annotate"]
    assert complete("clapjax", "embed", "sounds/", "--par") == ["--part_size"]
    assert complete("clapjax", "embed", "sounds/", "") == []  # then bash completes files
    options = re.findall(r"^  (?:-h, )?(--\w+)", verb_parser("search").format_help(), re.MULTILINE)
    assert set(complete("clapjax", "search", "--")) == set(options)
    assert main(["completion", "zsh"]) == 0
    first, rest = capsys.readouterr().out.split("\n", 1)
    assert "bashcompinit" in first and rest == script


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost(verb, capsys):
    """Fails before: Python ignores what such a callback raises, and the verb goes on."""

    def interrupt(*_) -> None:
        gc.callbacks.remove(interrupt)
        signal.raise_signal(signal.SIGINT)

    def run(args, overrides) -> int:
        gc.callbacks.append(interrupt)
        gc.collect()
        threading.Event().wait(20)
        return 0

    verb(run)
    hook, handler = sys.unraisablehook, signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["try"]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err == "clapjax try: interrupted\n"
    assert sys.unraisablehook is hook


@pytest.mark.parametrize(
    ("words", "status"), [("report gs://b/d", 2), ("train --data_dir s3://b/d", 75)]
)
def test_a_bucket_that_does_not_answer_is_one_line(words, status, monkeypatch, capsys):
    """With what goes on, a run that starts again has lost nothing."""
    name, *rest = words.split()

    def run(args, overrides):
        raise gcsfs.retry.HttpError({"code": 503, "message": "busy"})

    monkeypatch.setattr(importlib.import_module(VERBS[name][0]), "run", run)
    rest += ["--config", "c.py", "--workdir", "gs://b/run"] if name == "train" else []
    assert main([name, *rest]) == status
    error = capsys.readouterr().err
    assert error.startswith(f"clapjax {name}: {words.split()[-1]}") and error.count("\n") == 1
    assert ("then, the same command goes on" in error) == (status == 75)
