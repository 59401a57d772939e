"""`clapjax captions negate|expand|generate|filter`."""

import argparse
import contextlib
import os
import sys
from collections import Counter

from clapjax.cli import generating
from clapjax.cli.show import progress

EXAMPLE = "clapjax captions negate --backend rules --input captions.csv --output negatives.jsonl"
EXPAND_EXAMPLE = (
    "clapjax captions expand --backend template --input labels.jsonl --output captions.jsonl"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """negate|expand|filter --input IN --output OUT; generate D --model M."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    negate = actions.add_parser(
        "negate", help="the same events in another order", epilog=f"example: {EXAMPLE}"
    )
    negate.add_argument(
        "--backend",
        default="rules",
        help="rules, openai or transformers; or a mixture: rules:0.5,openai:0.5",
    )
    _add_files(negate, "", "caption, captions, caption_1, ..., text")
    negate.add_argument("--count", type=int, default=1, help="negatives a caption at most")
    negate.add_argument(
        "--balance",
        action="store_true",
        help="word negatives with their caption's connectives, leave out where that fails",
    )
    expand = actions.add_parser(
        "expand", help="labels or tags to captions", epilog=f"example: {EXPAND_EXAMPLE}"
    )
    expand.add_argument("--backend", default="template", choices=("template", "t5", "openai"))
    _add_files(expand, "labels", "labels")
    expand.add_argument("--count", type=int, default=1, help="captions a row at most (template)")
    expand.add_argument("--separator", default=";", help="between the labels of a CSV cell")
    expand.add_argument("--debias", action="store_true", help="man/woman to person, her to their")
    for action in (negate, expand):
        _add_models(action)
    generating.add_parsers(actions)


def _add_files(parser: argparse.ArgumentParser, column: str, default: str) -> None:
    parser.add_argument(
        "--input",
        required=True,
        metavar="IN",
        help="a table (.csv, .tsv, .jsonl), or records: DIR or DIR:SPLIT",
    )
    parser.add_argument("--output", required=True, metavar="OUT.jsonl", help="JSON lines")
    parser.add_argument("--column", default=column, help=f"of a table (default: {default})")
    parser.add_argument("--seed", type=int, default=0)


def _add_models(parser: argparse.ArgumentParser) -> None:
    chat = parser.add_argument_group("openai, t5 and transformers")
    chat.add_argument("--model", default="", help="name at the endpoint; hub id or folder")
    chat.add_argument("--base_url", help="of the endpoint (default: OPENAI_BASE_URL)")
    chat.add_argument("--api_key", help="better in OPENAI_API_KEY, which others cannot list")
    chat.add_argument("--concurrency", type=int, default=32, help="requests in flight")
    chat.add_argument("--rounds", type=int, default=3, help="of asking until an answer is valid")
    chat.add_argument("--cache", help="file of answers (default: OUT.jsonl.answers)")
    chat.add_argument("--local_model", help="of transformers in a mixture (default: --model)")
    chat.add_argument("--device", default="cpu", help="of a local model: cpu or cuda")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs one of them."""
    if args.action == "generate":
        return generating.generate(args)
    if args.action != "filter" and args.count < 1:
        raise ValueError(f"--count must be positive, not {args.count}")
    if args.output and not args.output.lower().endswith(
        ".jsonl"
    ):  # those who read it would take it for CSV
        raise ValueError(f"--output {args.output}: is JSON lines, so its name must end in .jsonl")
    if args.action == "filter":
        return generating.choose(args)
    _tell_unread(args)
    return negate(args) if args.action == "negate" else expand(args)


def _tell_unread(args: argparse.Namespace) -> None:
    """Says which columns of a table do not come through, such as an unknown name for files."""
    from clapjax.captions.tables import unread_columns
    from clapjax.data.tables import SUFFIXES

    if not args.input.lower().endswith(SUFFIXES):
        return
    unread = [name for name in unread_columns(args.input) if name != args.column.lower()]
    if unread:
        print(
            f"clapjax captions: {args.input}: nothing reads the columns {', '.join(unread)}; they "
            "are not copied to --output",
            file=sys.stderr,
        )


def _those_with(what: str, rows: list, source: str) -> list:
    """The rows that have captions, or labels; says how many have none."""
    kept = [row for row in rows if getattr(row, what)]
    if bare := len(rows) - len(kept):
        first = next(row.place for row in rows if not getattr(row, what))
        print(
            f"clapjax captions: {source}: {bare} of {len(rows)} rows have no {what} and are left "
            f"out; the first is {first}",
            file=sys.stderr,
        )
    return kept


@contextlib.contextmanager
def _cache(args: argparse.Namespace, wanted: bool):
    from clapjax.captions.llm.cache import open_cache

    if not wanted:
        yield None
        return
    with open_cache(args.cache or f"{args.output}.answers") as cache:
        yield cache


def negate(args: argparse.Namespace) -> int:
    """Writes temporal negatives and says how many, and why others have none."""
    from clapjax.captions import backends
    from clapjax.captions.balance import balanced
    from clapjax.captions.llm import chat, local
    from clapjax.captions.rules.connectives import states_order
    from clapjax.captions.tables import read_captions
    from clapjax.data.tables import write_rows

    shares = backends.parse_mixture(args.backend)
    rows = _those_with("captions", read_captions(args.input, args.column), args.input)
    captions = [caption for row in rows for caption in row.captions]
    local_model = args.local_model or args.model
    with _cache(args, shares.keys() != {"rules"}) as cache:
        run = {"rules": lambda some: backends.by_rules(some, args.count, args.seed)}
        if "openai" in shares:
            config = _chat_config(args)
            run["openai"] = lambda some: chat.negate(some, args.count, config, cache)
        if "transformers" in shares:
            settings = local.LocalConfig(local_model, args.device, rounds=args.rounds)
            run["transformers"] = lambda some: local.negate(some, args.count, settings, cache)
        names = {"rules": "rules", "openai": f"llm:{args.model}"}
        names["transformers"] = f"llm:{os.path.basename(local_model.rstrip('/'))}"
        outcomes = backends.negate_all(captions, shares, args.seed, run, names)
        if args.balance:
            outcomes = map(balanced, outcomes)
        tally: Counter = Counter()
        outcomes = _counted(progress(outcomes, len(captions), "negate"), tally, states_order)
        write_rows(args.output, backends.join_rows(rows, outcomes))
    _report(args.output, tally, len(captions))
    return 0


def _counted(outcomes, tally: Counter, states_order):
    """Counts outcomes on their way."""
    for done in outcomes:
        stated = states_order(done.caption)
        tally["stated"] += stated
        if done.negative_captions:
            tally["with"] += 1
            tally["covered"] += stated
            tally[f"  {done.provenance}"] += 1
        else:
            tally[f"  none: {done.reason.split(':')[0]}"] += 1
        yield done


def _report(output: str, tally: Counter, total: int) -> None:
    share = 100 * tally["covered"] / max(tally["stated"], 1)
    print(f"{output}: {total} captions, {tally['with']} with negatives")
    print(f"{tally['stated']} state an order of events; {tally['covered']} of them ({share:.1f} %)")
    for name, count in tally.most_common():
        if name.startswith(" "):
            print(f"{name}: {count}")


def _chat_config(args: argparse.Namespace):
    from clapjax.captions.llm.chat import ChatConfig

    return ChatConfig(
        model=args.model,
        base_url=args.base_url,
        api_key=args.api_key,
        concurrency=args.concurrency,
        rounds=args.rounds,
    )


def expand(args: argparse.Namespace) -> int:
    """Writes captions of labels and says how many."""
    from dataclasses import replace

    from clapjax.captions import keywords
    from clapjax.captions.tables import read_labels
    from clapjax.data.tables import write_rows

    rows = _those_with("labels", read_labels(args.input, args.column, args.separator), args.input)
    labels = [row.labels for row in rows]
    with _cache(args, args.backend == "openai") as cache:
        if args.backend == "template":
            outcomes = (keywords.by_template(some, args.count, args.seed) for some in labels)
        elif args.backend == "t5":
            if not args.model:
                raise ValueError("t5: name the model, e.g. --model gagan3012/k2t-base")
            outcomes = keywords.by_t5(labels, args.model, args.device)
        else:
            outcomes = keywords.by_chat(labels, _chat_config(args), cache)
        if args.debias:
            outcomes = (
                replace(done, captions=tuple(map(keywords.debias, done.captions)))
                for done in outcomes
            )
        made = 0

        def written():
            nonlocal made
            outcomes_shown = progress(outcomes, len(rows), "expand")
            for row, done in zip(rows, outcomes_shown, strict=True):
                made += bool(done.captions)
                kinds = (done.provenance,) * len(done.captions)
                full = replace(row, captions=done.captions, kinds=kinds)
                yield full.to_row(None if done.captions else done.reason)

        write_rows(args.output, written())
    print(f"{args.output}: {len(rows)} rows, {made} with captions")
    return 0
