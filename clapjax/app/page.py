"""The page itself, in Gradio: what is on it, and which function answers which button."""

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from clapjax.app import figures, listening
from clapjax.app.library import Library
from clapjax.inference import Clap

REMEMBERED = 200  # stretches of sounds whose frames are kept for the next search
LOOKS = [
    ("as fits its length", "auto"),
    ("moments: seconds, each alone", "moments"),
    ("windows: clips, each alone", "windows"),
    ("frames: steps within clips", "frames"),
]


@dataclass(frozen=True)
class Place:
    """What the page works with."""

    model: Clap
    library: Library
    folder: Path  # of files for players, which the page may read


@dataclass(frozen=True)
class Source:
    """Where a sound is chosen: one of the library, or one of the visitor's."""

    name: gr.Dropdown
    own: gr.Audio

    @property
    def inputs(self) -> list:
        """For an event."""
        return [self.name, self.own]


def build_page(place: Place, about: str) -> gr.Blocks:
    """The page; `about` says in a line what it searches."""
    with gr.Blocks(title="clapjax: sounds, by ear", analytics_enabled=False) as page:
        gr.HTML(f"<h2>clapjax: sounds, by ear</h2><p>{escape(about)}</p>")
        if place.library.left_out:
            gr.HTML(figures.told(place.library.left_out, "left out: cannot be heard"))
        with gr.Tab("Find a sound"):
            searched = _finding(place)
        with gr.Tab("What is heard?"):
            first = _classifying(place)
        with gr.Tab("Which order?"):
            second = _ordering(place)
        for event, names in searched:  # what is found may be chosen in the other tabs
            for source in (first, second):
                event.success(
                    functools.partial(_choices, place.library),
                    names,
                    source.name,
                    show_progress="hidden",
                    api_visibility="private",
                )
    return page


def launch(page: gr.Blocks, folder: Path, host: str, port: int | None, share: bool) -> list[str]:
    """Serves the page in threads of its own, and returns its addresses.

    Raises:
      OSError: the port is taken.
    """
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    _, local, shared = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        allowed_paths=[str(folder)],
        theme=theme,
        css=figures.STYLE,
        head=f"<script>{figures.SCRIPT}</script>",
    )
    return [address for address in (local, shared) if address]


def _finding(place: Place) -> list[tuple]:
    """The tab that searches: (each of its events, the state with the names that it found)."""
    model, library = place.model, place.library
    listen = figures.remembered(listening.listen_between, REMEMBERED)

    def answer(query, said: str, top: int):
        found = figures.search(model, library, query, said, top, listen)
        shown = figures.show_found(model, library, found, place.folder)
        return shown, [one.name for one in found.heard]

    def by_words(text: str, top: int):
        if not text.strip():
            raise ValueError("nothing to look for; type what it sounds like")
        return answer(model.embed_text([text])[0], text.strip(), top)

    def by_sound(own: str | None, top: int):
        if own is None:
            raise ValueError("no sound to look for; upload one, or record it")
        return answer(listening.embed_whole(model, own), "like this sound", top)

    with gr.Row(equal_height=True):
        text = gr.Textbox(
            label="What does it sound like?", placeholder="a dog barks", scale=6, autofocus=True
        )
        top = gr.Dropdown([1, 3, 5, 10, 20], value=5, label="Answers", scale=1, min_width=90)
        button = gr.Button("Find", variant="primary", scale=1, min_width=90)
    with gr.Accordion("or find the like of a sound", open=False):
        own = _own_sound()
        like = gr.Button("Find the like")
    shown, names = gr.HTML(), gr.State([])
    outputs = [shown, names]
    events = [
        _on(button.click, by_words, [text, top], outputs),
        _on(text.submit, by_words, [text, top], outputs),
        _on(like.click, by_sound, [own, top], outputs),
    ]
    return [(event, names) for event in events]


def _classifying(place: Place) -> Source:
    """The tab that labels."""

    def label(name: str | None, own: str | None, labels: str, look: str, each: bool) -> str:
        path, title = _chosen(place, name, own)
        given = [word.strip() for word in re.split(r"[,\n]", labels) if word.strip()]
        found = listening.classify(place.model, path, given, look, each or len(given) == 1)
        return figures.show_labelled(place.model, path, title, found, place.folder)

    source = _source(place.library)
    labels = gr.Textbox(label="Labels, with commas between them", placeholder="dog, rain, siren")
    with gr.Row():
        look = gr.Radio(LOOKS, value="auto", label="Over time", scale=3)
        each = gr.Checkbox(label="several at once, or none", info="each label for itself", scale=1)
    button = gr.Button("Listen", variant="primary")
    inputs, shown = [*source.inputs, labels, look, each], gr.HTML()
    _on(button.click, label, inputs, shown)
    _on(labels.submit, label, inputs, shown)
    return source


def _ordering(place: Place) -> Source:
    """The tab that compares two captions."""

    def compare(name: str | None, own: str | None, first: str, second: str, look: str) -> str:
        path, title = _chosen(place, name, own)
        captions = first.strip(), second.strip()
        found = listening.prefer(place.model, path, captions, look)
        return figures.show_preferred(place.model, path, title, captions, found, place.folder)

    source = _source(place.library)
    with gr.Row():
        first = gr.Textbox(label="One caption", placeholder="a dog barks, then rain falls")
        second = gr.Textbox(label="Another", placeholder="rain falls, then a dog barks")
    turn = gr.Button("Write the other order", size="sm")
    look = gr.Radio(LOOKS, value="auto", label="Over time")
    button = gr.Button("Which one?", variant="primary")
    shown = gr.HTML()
    _on(turn.click, listening.turned_round, first, second)
    _on(button.click, compare, [*source.inputs, first, second, look], shown)
    return source


def _source(library: Library) -> Source:
    with gr.Row():
        name = gr.Dropdown(
            [(library.title(name), name) for name in library.names],
            value=library.names[0],
            label="A sound",
        )
        with gr.Accordion("or one of yours", open=False):
            own = _own_sound()
    return Source(name, own)


def _own_sound() -> gr.Audio:
    """An upload or a recording, which the browser plays as it comes and does not draw."""
    plain = gr.WaveformOptions(show_recording_waveform=False)
    return gr.Audio(
        type="filepath", label="Yours", editable=False, buttons=[], waveform_options=plain
    )


def _chosen(place: Place, name: str | None, own: str | None) -> tuple[str, str]:
    """(path, title) of the sound; the visitor's own is meant where there is one."""
    if own is not None:
        return own, os.path.basename(own)
    if name is None:
        raise ValueError("no sound to hear; choose one")
    return place.library.path(name), place.library.title(name)


def _choices(library: Library, found: list[str]):
    """What may be chosen: the newest answers, then the library; the best answer is."""
    names = [*found, *(name for name in library.names if name not in found)]
    value = {"value": found[0]} if found else {}
    return gr.update(choices=[(library.title(name), name) for name in names], **value)


def _on(listener: Callable, function: Callable, inputs, outputs):
    """An event whose errors are shown on the page, in a line: in the place of an answer if any."""
    several = isinstance(outputs, list)
    place = outputs[0] if several else outputs

    @functools.wraps(function)
    def answer(*given):
        try:
            return function(*given)
        except (ValueError, OSError) as error:
            said = str(error)
            for path in filter(os.path.isabs, (x for x in given if isinstance(x, str))):
                said = said.replace(path, os.path.basename(path))  # of an upload nobody knows it
            if not isinstance(place, gr.HTML):
                raise gr.Error(escape(said), print_exception=False) from error
            shown = f'<p class="clapjax"><b>{escape(said)}</b></p>'
            return (shown, []) if several else shown

    return listener(answer, inputs, outputs, api_visibility="private")
