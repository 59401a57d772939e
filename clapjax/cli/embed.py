"""`clapjax embed`."""

import argparse

from clapjax.cli.inputs import (
    add_long_arguments,
    add_model_arguments,
    find_audio,
    load_clap,
    printable,
)
from clapjax.cli.show import complain, progress
from clapjax.plain import read_lines

EXAMPLE = "clapjax embed --model laion/clap-htsat-unfused sounds/ 'more/**/*.flac' --out index.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M INPUT... --text T --texts F --out F, and how long audio is heard."""
    add_model_arguments(parser)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="file, folder or 'pattern'")
    parser.add_argument("--text", action="append", default=[], help="a text; may be repeated")
    parser.add_argument("--texts", metavar="FILE", help="a file with a text on each line")
    parser.add_argument("--out", required=True, help=".npz or .parquet file, written at the end")
    add_long_arguments(parser)
    parser.add_argument(
        "--windows",
        type=float,
        metavar="SECONDS",
        help="one embedding every so many seconds, with its times, instead of one a file",
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes the file; status 1 where some input is not in it, 2 (and no file) where none is."""
    from clapjax.inference.store import check_output

    if args.windows is not None and (args.long or args.hop):
        raise ValueError("--windows is instead of --long and --hop")
    texts = args.text + (read_lines(args.texts) if args.texts else [])
    files, problems = find_audio(args.inputs)
    for problem in problems:
        complain("embed", problem)
    if not files and not texts:
        raise ValueError("nothing to embed; name files, folders, --text or --texts")
    check_output(args.out, [*map(printable, files), *texts])
    done = embed(args, files, texts)
    failed = len(problems) + len(files) + len(texts) - done
    if failed:
        complain("embed", f"{failed} inputs left out")
    return 1 if failed else 0


def embed(args: argparse.Namespace, files: list[str], texts: list[str]) -> int:
    """Embeds and writes the file; the number of inputs that are in it."""
    import numpy as np

    from clapjax.inference.store import Table, fingerprint, write_table

    towers = {"audio": bool(files), "text": bool(texts)}
    chosen = "both" if all(towers.values()) else "audio" if files else "text"
    model = load_clap(args, chosen)
    found = embed_files(model, args, files)
    times = [found[index][0] for index in sorted(found)]
    vectors = [found[index][1] for index in sorted(found)]
    names = [printable(files[index]) for index in sorted(found) for _ in found[index][0]]
    kinds = ["audio"] * len(names)
    if texts:
        vectors.append(model.embed_text(texts))
        names, kinds = names + texts, kinds + ["text"] * len(texts)
        times.append(np.full((len(texts), 2), np.nan))
    if not names:
        raise ValueError(f"none of the inputs could be embedded; {args.out} is not written")
    table = Table(
        vectors=np.concatenate(vectors),
        names=names,
        kinds=kinds,
        model=str(args.model),
        fingerprints={
            tower: fingerprint(model.config, model.variables, tower)
            for tower, used in towers.items()
            if used
        },
        times=None if args.windows is None else np.concatenate(times),
    )
    write_table(args.out, table)
    print(f"{args.out}: {len(names)} embeddings of {len(found)} files and {len(texts)} texts")
    return len(found) + len(texts)


def embed_files(model, args: argparse.Namespace, files: list[str]) -> dict:
    """{number of the file: (times (N, 2), vectors (N, D))}; complains about broken ones."""
    import numpy as np

    if not files:
        return {}
    if args.windows is None:
        results = model.each_audio(files, long=args.long, hop=args.hop)
    else:
        results = model.each_windows(files, args.windows)
    found = {}
    for index, result in progress(results, len(files), "embedding"):
        if isinstance(result, ValueError):
            complain("embed", result)
        elif args.windows is None:
            found[index] = np.full((1, 2), np.nan), result[None]
        else:
            found[index] = result
    return found
