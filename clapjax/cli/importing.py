"""`clapjax import`."""

import argparse

EXAMPLE = "clapjax import 630k-audioset-best.pt clap-unfused --tokenizer roberta-base"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC DIR [--tokenizer NAME]."""
    parser.add_argument(
        "source", help="LAION .pt file, BLAT folder, Hugging Face ClapModel folder or hub id"
    )
    parser.add_argument("folder", help="new folder for the model")
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="hub id or folder; default: the source's own"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Writes a Hugging Face folder where transformers can represent the model, else clapjax's."""
    from clapjax.interop.export import best_layout, write_model
    from clapjax.interop.load import load_pretrained

    model = load_pretrained(args.source, tokenizer=args.tokenizer)
    layout = best_layout(model.config)
    write_model(args.folder, model, to=layout)
    whose = "transformers and clapjax read" if layout == "hf" else "clapjax reads"
    print(f"{args.folder}: written; {whose} it")
    return 0
