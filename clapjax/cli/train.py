"""`clapjax train`."""

import argparse
import functools
import sys
import zlib

from clapjax.cli.compiled import keep_compiled, say_where_compiled
from clapjax.cli.config import (
    add_config_argument,
    add_model_argument,
    check_given,
    given_fields,
    load_config,
    with_model,
)

EXAMPLE = (
    "clapjax train --config configs/demo.py --data_dir data/demo --workdir runs/demo "
    "--config.steps=100"
)
ROWS_OF_A_DEVICE = 8  # in an evaluation, at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config F [--model M] --data_dir D --workdir W, and what several processes need."""
    add_config_argument(parser)
    add_model_argument(parser)
    parser.add_argument(
        "--data_dir",
        required=True,
        help="folder of the records, which are made where there are none and "
        "--config.source.path=FOLDER tells of what",
    )
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument(
        "--profile",
        metavar="FROM:TO",
        type=_span,
        help="write a profiler trace of these steps to WORKDIR/profile",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits each time on GPUs too, with slower kernels",
    )
    group = parser.add_argument_group(
        "several processes", "TPU pods and SLURM need none of these; they exit with 75 on SIGTERM"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is found")
    group.add_argument("--num_processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process_id", type=int, metavar="I", help="which this is, from 0")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains or resumes."""
    from clapjax.experiment import check_workdir, make_task
    from clapjax.starting import resolve
    from clapjax.training import distributed
    from clapjax.training.checkpoint import latest_step
    from clapjax.training.deterministic import make_deterministic
    from clapjax.training.mesh import check_batch, make_mesh

    overrides = with_model(overrides, args.model)
    given, experiment = given_fields(overrides), load_config(args.config, overrides)
    check_given(given, experiment)
    check_workdir(args.workdir)
    if args.deterministic:
        make_deterministic()
    distributed.start(args.coordinator, args.num_processes, args.process_id)
    keep_compiled(args)
    done = latest_step(args.workdir) or 0
    experiment, tokenizer = resolve(experiment, given, args.workdir)
    # Before the work of building or reading records.
    task = make_task(experiment, tokenizer)
    check_batch(experiment, make_mesh(experiment.mesh).size, task.group)
    if "source.path" in given:
        find_records(experiment, args.data_dir)
    try:
        train_and_evaluate(experiment, args.data_dir, args.workdir, args.profile, tokenizer)
    except (RuntimeError, ValueError) as error:
        if not distributed.lost_another(error):
            raise
        distributed.leave(f"another process of this run has ended ({str(error)[:200]})")
    if done >= experiment.steps and distributed.is_main():
        print(
            f"{args.workdir}: already trained, {done} steps of {experiment.steps}; `clapjax eval` "
            "writes its results"
        )
    return 0


def find_records(experiment, data_dir: str) -> None:
    """Builds the records where there are none; says so where they are of something else.

    Raises:
      RecordsError: there are none, and several processes that would build them at once.
      ValueError: what a build raises.
    """
    import jax

    from clapjax.cli.records import build
    from clapjax.data.build.builder import changed_since
    from clapjax.data.paths import as_path
    from clapjax.data.records import BUILD_FILE, RecordsError
    from clapjax.training import distributed

    if (as_path(data_dir) / BUILD_FILE).is_file():
        found = distributed.is_main() and changed_since(experiment.source, data_dir)
        if found:
            _warn(f"{data_dir}: trains on records that were made before this: {found}")
    elif jax.process_count() > 1:
        raise RecordsError(
            f"{data_dir}: no records here; several processes need them built before, by "
            "`clapjax records build` with the same --config and --model"
        )
    else:
        build(experiment, data_dir)


def train_and_evaluate(
    experiment,
    data_dir: str,
    workdir: str,
    profile: tuple[int, int] | None = None,
    tokenizer=None,
) -> dict:
    """Trains with the experiment's evaluation; returns the last results, none of an old run.

    The tokenizer is that of `clapjax.starting.resolve`.
    """
    from clapjax.data.forms import check_form
    from clapjax.data.paths import as_path
    from clapjax.data.records import check_rate, read_form
    from clapjax.experiment import make_task, save_experiment
    from clapjax.training import distributed
    from clapjax.training.loop import train
    from clapjax.training.workdir import builds

    builds(data_dir, experiment)  # that all hosts see the same, before one stumbles
    audio, data = experiment.model.audio, experiment.data
    check_rate(data_dir, audio.sample_rate)
    check_form(data_dir, read_form(data_dir), data.split, data.audio, audio)
    task, results = make_task(experiment, tokenizer), {}
    for line in _doubts(experiment, data_dir, workdir, tokenizer):
        _warn(line)
    evaluate = judge(experiment, data_dir, workdir, results)
    distributed.wait_for_all("config is read")
    if not distributed.same(zlib.crc32(repr(experiment).encode())):
        raise ValueError("the processes have different configs; start all with the same command")
    with distributed.together(as_path(workdir)):
        save_experiment(experiment, workdir, write=distributed.is_main())
    if distributed.is_main():
        say_where_compiled()
    train(
        experiment,
        task,
        data_dir=data_dir,
        workdir=workdir,
        evaluate=evaluate,
        load=functools.partial(
            load_model, experiment.task, workdir=workdir, tower=experiment.init_tower
        ),
        profile=profile,
    )
    return results


def judge(experiment, data_dir: str, workdir: str, results: dict):
    """The evaluation of a run for `clapjax.training.loop.train`, as far as the records allow it.

    What is left out is said in a line.

    Returns:
      The function, which leaves what it found in `results`; None: there is nothing to judge.

    Raises:
      RecordsError: no records, or damaged ones.
    """
    import jax

    from clapjax.training import distributed

    # The same on any mesh, and so are the scores.
    rows = ROWS_OF_A_DEVICE * jax.device_count()
    make = JUDGES[experiment.task]
    look, left_out = make(experiment, data_dir, workdir, rows)
    for line in left_out:
        _warn(f"evaluation leaves out {line}")
    if look is None and experiment.evaluation.tasks:
        _warn(
            "there is nothing to evaluate on, so the run is not judged; "
            "--config.evaluation.split=NAME names another split"
        )
    if look is None:
        return None

    def judged(forward, variables: dict, step: int) -> dict[str, float]:
        found, scores, line = look(forward, variables)
        results.clear()
        results.update(found)
        if distributed.is_main():
            print(f"step {step}: {line}", flush=True)
        return scores

    return judged


def _judge_contrastive(experiment, data_dir: str, workdir: str, rows: int):
    """(a function of (forward, variables) to (results, scores, line), what is left out)."""
    from clapjax.data.paths import last_name
    from clapjax.evaluation.benchmarks import load_tasks
    from clapjax.evaluation.evaluate import LACKS, evaluate, scores
    from clapjax.evaluation.text import summary
    from clapjax.inference import Clap
    from clapjax.tasks.texts import workdir_model

    settings, where = experiment.evaluation, last_name(data_dir)
    tasks, left_out = load_tasks(where, data_dir, settings, LACKS)

    def look(forward, variables: dict) -> tuple[dict, dict, str]:
        name = experiment.data.tokenizer
        config, tokenizer = workdir_model(experiment.model, name, workdir)
        model = Clap(config, variables, tokenizer, batch_size=rows, forward=forward)
        results = evaluate(model, last_name(workdir), tasks, settings)
        return {"results": results}, scores(results), summary(results)

    return look if tasks else None, left_out


def _judge_tagging(experiment, data_dir: str, workdir: str, rows: int):
    """As `_judge_contrastive`."""
    from clapjax.data.paths import last_name
    from clapjax.evaluation.benchmarks import SplitError, load_benchmark
    from clapjax.evaluation.evaluate import scores
    from clapjax.evaluation.tagging import evaluate_tagging, lacks, unknown
    from clapjax.evaluation.text import summary
    from clapjax.inference import Tagger
    from clapjax.tasks.tagging import workdir_settings

    if not experiment.evaluation.tasks:
        return None, []
    try:
        benchmark = load_benchmark(last_name(data_dir), data_dir, experiment.evaluation.split)
        why = lacks(benchmark, experiment.tagging.labels)
    except SplitError as error:
        why = str(error)
    if why:
        return None, [f"tagging: {why}"]

    told = []

    def look(forward, variables: dict) -> tuple[dict, dict, str]:
        settings = workdir_settings(experiment.tagging, workdir)
        if not told and (doubt := unknown(benchmark, settings.labels)):
            _warn(doubt)
            told.append(doubt)
        tagger = Tagger(experiment.model, settings, variables, rows, forward)
        results = evaluate_tagging(tagger, last_name(workdir), benchmark)
        return {"results": results}, scores(results), summary(results)

    return look, []


def _judge_captioning(experiment, data_dir: str, workdir: str, rows: int):
    """As `_judge_contrastive`."""
    from clapjax.data.paths import last_name
    from clapjax.evaluation.benchmarks import SplitError, load_benchmark
    from clapjax.evaluation.captioner import evaluate_captioner
    from clapjax.evaluation.captioning import lacks
    from clapjax.evaluation.evaluate import scores
    from clapjax.evaluation.text import summary
    from clapjax.inference import Captioner
    from clapjax.tasks.captioning import workdir_settings

    if not experiment.evaluation.tasks:
        return None, []
    try:
        benchmark = load_benchmark(last_name(data_dir), data_dir, experiment.evaluation.split)
        why = lacks(benchmark)
    except SplitError as error:
        why = str(error)
    if why:
        return None, [f"captioning: {why}"]

    def look(forward, variables: dict) -> tuple[dict, dict, str]:
        name, config = experiment.data.tokenizer, experiment.captioning
        settings, tokenizer = workdir_settings(config, name, workdir)
        captioner = Captioner(experiment.model, settings, tokenizer, variables, rows, forward)
        found = evaluate_captioner(captioner, last_name(workdir), benchmark, experiment.evaluation)
        return {"results": found}, scores(found), summary(found)

    return look, []


JUDGES = {
    "contrastive": _judge_contrastive,
    "tagging": _judge_tagging,
    "captioning": _judge_captioning,
}


def load_model(task: str, source: str, workdir: str, tower: str = "") -> dict:
    """{"params", "batch_stats"} of a workdir, or of whatever else `clapjax.load` takes.

    With the `tower` "text" that one, and the scales of the logits, alone.

    From task to task it is the audio encoder alone, and so it is for a tagger from one with another
    head or other labels than the run in `workdir` has.
    """
    from clapjax.experiment import load_experiment
    from clapjax.interop.load import load_any
    from clapjax.interop.tagger import PretrainedTagger
    from clapjax.tasks.tagging import workdir_settings
    from clapjax.training.checkpoint import latest_step, load_variables

    theirs, tells = "contrastive", None
    if latest_step(source) is not None:
        trained = load_experiment(source)
        variables, theirs = load_variables(source)[0], trained.task
        if task == theirs == "tagging":
            tells = workdir_settings(trained.tagging, source)
    else:
        found = load_any(source)
        variables = found.variables
        if isinstance(found, PretrainedTagger):
            theirs, tells = "tagging", found.settings
    if tower:
        names = ("text_encoder", "text_projection", "logit_scale_a", "logit_scale_t")
        return {"params": {name: variables["params"][name] for name in names}}
    if task == theirs and (task != "tagging" or _same_head(tells, workdir)):
        return variables
    encoder = "audio_encoder"
    return {kind: {encoder: tree[encoder]} for kind, tree in variables.items() if encoder in tree}


def _same_head(theirs, workdir: str) -> bool:
    """Whether a run has the labels and head of a `TaggingConfig`: so many labels may be others."""
    from clapjax.experiment import load_experiment
    from clapjax.tasks.tagging import workdir_settings

    own = workdir_settings(load_experiment(workdir).tagging, workdir)
    return (theirs.labels, theirs.head) == (own.labels, own.head)


def _doubts(experiment, data_dir: str, workdir: str, tokenizer) -> list[str]:
    from clapjax.tasks.doubts import caption_doubts, doubts, label_doubts
    from clapjax.tasks.texts import workdir_tokenizer

    if experiment.task == "tagging":
        return label_doubts(data_dir, experiment.data.split, experiment.tagging.labels)
    run, name = experiment, experiment.data.tokenizer
    if tokenizer is None:
        tokenizer = workdir_tokenizer(name, data_dir if name == "records" else workdir)
    if experiment.task == "captioning":
        length = run.captioning.decoder.max_length
        return caption_doubts(data_dir, run.data.split, tokenizer, length)
    limits = run.model.text.max_length, run.model.audio.clip_samples
    return doubts(data_dir, run.data, run.loss, run.batch_size, run.seed, tokenizer, *limits)


def _warn(line: str) -> None:
    """One line on stderr, by one process."""
    from clapjax.training import distributed

    if distributed.is_main():
        print(line, file=sys.stderr, flush=True)


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM:TO, two steps")
    return int(first), int(last)
