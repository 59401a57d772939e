"""`clapjax app`."""

import argparse
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path

from clapjax.cli.inputs import add_file_arguments, add_model_arguments, load_clap, need_files
from clapjax.cli.show import Progress, complain

EXAMPLE = "clapjax app --model laion/clap-htsat-unfused sounds/"
DEMO = Path("clapjax_demo", "temporal")  # where `clapjax demo` leaves its model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model M FILE... or --index I, and where the page is."""
    add_model_arguments(parser, required=False)
    add_file_arguments(parser)
    parser.add_argument(
        "--index", help="instead of files: what `clapjax index` made, or `clapjax embed` wrote"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument(
        "--share", action="store_true", help="a public address for some days, by Gradio's server"
    )


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Serves the page until it is interrupted."""
    named = args.inputs or args.files
    if named and args.index:
        raise ValueError("--index is instead of files; name one of the two")
    if args.port is not None and not 0 < args.port < 2**16:
        raise ValueError(f"--port must be in 1 .. 65535, not {args.port}")
    check_address(args.host, args.port or 0)
    if args.model is None and not DEMO.is_dir():
        raise ValueError(
            f"no --model, and none of the demo in {DEMO}: `clapjax demo` makes it in some ten "
            "minutes, or name a --model"
        )
    args.model = args.model or str(DEMO)
    with tempfile.TemporaryDirectory(prefix="clapjax-app-") as name:
        folder = Path(name).resolve()
        page = import_page(folder / "uploads")
        files = need_files("app", args) if named else None
        model = load_clap(args)
        library = find_library(args, model, files, folder)
        about = f"{told(args, library)}; heard by {args.model}"
        (players := folder / "players").mkdir()
        served = page.build_page(page.Place(model, library, players), about)
        try:
            for address in page.launch(served, players, args.host, args.port, args.share):
                print(address, flush=True)
            print("Ctrl-C ends it", flush=True)
            wait_for_the_end()
        finally:
            served.close(verbose=False)
    return 0


def check_address(host: str, port: int) -> None:
    """Finds out before the sounds are embedded whether the page can be served there; 0: any port.

    Raises:
      ValueError: the port is taken, or the host is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Gradio does
            probe.bind(address)
    except OSError as error:
        which = f"--port {port}" if port else f"--host {host}"
        raise ValueError(
            f"{which}: cannot be served from ({error.strerror}); name another, or leave it out"
        ) from error


def import_page(uploads: Path):
    """The module, of which Gradio keeps what visitors upload in this folder.

    Raises:
      ImportError: there is no Gradio; what to do is said.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # read when Gradio is imported
    try:
        from clapjax.app import page
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "PIL"):
            raise
        needed = "the page needs Gradio: pip install 'clapjax[app]'"
        raise ImportError(needed, name=error.name) from error
    return page


def wait_for_the_end() -> None:
    """Until Ctrl-C, or the signal by which machines end what they run."""
    ended = threading.Event()
    signals = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(kind, lambda *_: ended.set()) for kind in signals]
    try:
        ended.wait()
    finally:
        for kind, handler in zip(signals, before, strict=True):
            signal.signal(kind, handler)


def find_library(args: argparse.Namespace, model, files, folder: Path):
    """The index, or the files or the embedded sounds, which are embedded now."""
    from clapjax.app.library import make_library, open_library, write_sounds

    if args.index:
        return open_library(model, args.index)
    sounds = folder / "sounds"
    sounds.mkdir()
    files = write_sounds(sounds) if files is None else list(files)
    with Progress(len(files), "embedding") as shown:
        library = make_library(model, files, folder, shown.step)
    for line in library.left_out:
        complain("app", line)
    return library


def told(args: argparse.Namespace, library) -> str:
    """What is searched, in words."""
    if args.index:
        said = f"{library.count:,} embeddings of sounds in {args.index}"
        if missing := library.missing():
            lost = (
                f"{len(missing)} of its {len(library.names)} sounds are not there, as {missing[0]}"
            )
            complain("app", f"{args.index}: {lost}; begin where it was made, or embed anew")
            said += f" ({lost})"
        return said
    named = ", ".join([*args.inputs, *([args.files] if args.files else [])])
    return f"{library.count:,} sounds of {named}" if named else "sounds that clapjax synthesises"
