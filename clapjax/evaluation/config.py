"""What is evaluated, on which splits."""

from dataclasses import dataclass

USUAL = ("t_classify", "retrieval", "zero_shot")
GUIDANCE = ("none", "tags", "order")
TASKS = (*USUAL, "groups", "compositional", "probe", "captioning", "generation")
# Prompts of zero-shot classification, as the projects publish them.
TEMPLATES = {
    "laion": "This is a sound of {}.",  # LAION-CLAP
    "t_clap": "A sound of {}",  # T-CLAP
    "ms_clap": "this is the sound of {}",  # Microsoft's CLAP of 2023
}


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, on which splits."""

    tasks: tuple[str, ...] = USUAL  # which; () for none
    split: str = "test"  # of T-Classify and retrieval
    zero_shot_split: str = ""  # none named: test_clips where there is one, else `split`
    # Of zero-shot: prompts with a {}, or names of TEMPLATES; several, joined by "|", are averaged.
    template: str = TEMPLATES["laion"]
    probe_hidden: int = 0  # of probe: units of a hidden layer; 0: a linear one
    captions: str = ""  # of captioning: a table with id and captions, to be judged
    # Of a captioner: under what guidance it writes: "none", the clips' "tags", or with how these
    # follow one another ("order").
    guidance: tuple[str, ...] = ("none", "tags")
    style: str = ""  # in which it writes then, the name of a data set; empty: none is asked for
    tagger: str = ""  # in `clapjax eval` alone: a tagger by whose tags it writes besides
    clap: str = ""  # in `clapjax eval` alone: a CLAP model for the CLAP score of captions
    generated: str = ""  # of generation: records or a folder, to be judged against the benchmark
    # Of generation: seconds of the frames in which events are heard, for their order; 0: none are.
    frames: float = 0.0
    laion_compat: bool = False  # mAP@10 audio-to-text as LAION-CLAP's code has it, unsorted

    def __post_init__(self):
        if self.frames and not 0.1 <= self.frames <= 10:
            raise ValueError(f"evaluation.frames: 0.1 to 10 seconds, or 0, not {self.frames}")
        unknown = set(self.tasks) - set(TASKS)
        if unknown:
            raise ValueError(f"evaluation.tasks: no task {sorted(unknown)}; there are {TASKS}")
        if not self.guidance or set(self.guidance) - set(GUIDANCE):
            raise ValueError(
                f"evaluation.guidance: some of {', '.join(GUIDANCE)}, not {self.guidance}"
            )
        if not all("{}" in prompt for prompt in self.prompts):
            raise ValueError(
                f"evaluation.template {self.template!r} has no {{}}; write one, or one of "
                f"{', '.join(TEMPLATES)}"
            )

    @property
    def prompts(self) -> tuple[str, ...]:
        """The templates of zero-shot."""
        return tuple(TEMPLATES.get(part, part) for part in self.template.split("|"))
