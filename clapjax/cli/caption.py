"""`clapjax caption`."""

import argparse
import functools
import json
import sys
from collections.abc import Iterator

from clapjax.cli.decoding import (
    add_decoding_arguments,
    add_threshold_argument,
    find_decoding,
    find_threshold,
)
from clapjax.cli.inputs import add_file_arguments, load_kind, need_files, print_each
from clapjax.cli.show import in_line, progress

EXAMPLE = 'clapjax caption --model runs/captioner --tags "dog bark,rain" sounds/'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M FILE..., what guides, how words are chosen, and by what captions are ranked."""
    parser.add_argument("--model", required=True, help="workdir of a captioning run")
    add_file_arguments(parser)
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: 16)")
    told = parser.add_mutually_exclusive_group()
    told.add_argument(
        "--tags", default="", help="names of what sounds in all files, with commas between them"
    )
    told.add_argument("--tagger", metavar="T", help="a model for `clapjax tag` that hears the tags")
    add_threshold_argument(parser)
    parser.add_argument(
        "--order",
        default="",
        help="how the events follow one another: one, simultaneous, sequential or complex",
    )
    add_decoding_arguments(parser)
    parser.add_argument(
        "--rerank",
        metavar="CLAPMODEL",
        help="a model for `clapjax classify` by whose cosine the captions are put in order",
    )
    parser.add_argument(
        "--json", action="store_true", help="a row of a table of captions for each file, as JSON"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the captions of each file; status 1 where some could not be heard."""
    from clapjax.data.paths import last_name

    threshold, own = find_threshold(args), own_tags(args.tags)
    files = need_files("caption", args)
    model = load_kind("captioner", args.model, args.batch_size, "--model")
    rank = tagger = None
    if args.rerank:
        rank = load_kind("clap", args.rerank, args.batch_size, "--rerank")
    if args.tagger:
        tagger = load_kind("tagger", args.tagger, args.batch_size, "--tagger")

    def hear(some: list[str]) -> Iterator[tuple[int, list | ValueError]]:
        return model.each(
            some,
            tags=own if tagger is None else heard_tags(tagger, some, threshold),
            order=args.order,
            style=args.style,
            decoding=find_decoding(args, model.settings.decoding),
            seed=args.seed,
            long=args.long,
            rank=rank,
        )

    lines = functools.partial(told, json_by=last_name(args.model) if args.json else None)
    # All at once: words are drawn by the number of the file.
    return print_each("caption", "captioning", files, hear, lines, at_once=sys.maxsize)


def own_tags(given: str) -> list[str]:
    """Those of all files, with commas between them.

    Raises:
      ValueError: one is no name.
    """
    from clapjax.captions.keywords import is_name

    tags = [tag.strip() for tag in given.split(",") if tag.strip()]
    if odd := [tag for tag in tags if not is_name(tag)]:
        raise ValueError(f"--tags: {odd[0]!r} is no name of what sounds")
    return tags


def heard_tags(tagger, files: list[str], threshold: float) -> list:
    """What the tagger hears in each."""
    tags = [()] * len(files)
    for index, row in progress(tagger.each(files), len(files), "tagging"):
        if not isinstance(row, ValueError):  # else captioning says why
            tags[index] = tagger.likely(row, threshold)
    return tags


def told(name: str, captions: list, json_by: str | None) -> list[str]:
    """Lines about a file: its captions, with what they are ranked by where there are several.

    As JSON (`json_by`: the model's name) they are a row of a table that `records build` reads.
    """
    if json_by is not None:
        row = {"file": name, "captions": [one.text for one in captions]}
        row |= {"provenance": f"captioner:{json_by}"}
        for value in ("log_probability", "similarity"):
            values = [getattr(one, value) for one in captions]
            row |= {} if None in values else {value: values}
        return [json.dumps(row, ensure_ascii=False)]
    name = in_line(name)
    if len(captions) < 2:
        return [f"{name}  {captions[0].text if captions else '(no caption)'}"]
    values = [
        f"{one.log_probability:.2f}" if one.similarity is None else f"{one.similarity:.3f}"
        for one in captions
    ]
    return [f"{name}  {value}  {one.text}" for value, one in zip(values, captions, strict=True)]
