"""The README.md of an exported model."""

from clapjax.models.config import ClapConfig

USE = {
    "hf": """\
```python
from transformers import AutoProcessor, ClapModel

model = ClapModel.from_pretrained("{name}")
processor = AutoProcessor.from_pretrained("{name}")
inputs = processor(
    text=["a dog barks", "rain falls"],
    audio=waveform,  # mono, {rate} Hz; of more than {seconds:g} s a random part is heard
    sampling_rate={rate},
    padding=True,
    return_tensors="pt",
)
model(**inputs).logits_per_audio.softmax(dim=-1)
```

or, without PyTorch,
""",
    "clapjax": "transformers cannot represent this model; clapjax reads it.\n",
}


def model_card(name: str, config: ClapConfig, layout: str, results: str) -> str:
    """Markdown with what the model is, how to load it, and the table of its `results`."""
    audio, text = config.audio, config.text
    tags = ["clap", "audio", "audio-text-retrieval"]
    library = "transformers" if layout == "hf" else "clapjax"
    seconds = audio.clip_samples / audio.sample_rate
    lines = [
        "---",
        f"library_name: {library}",
        "pipeline_tag: zero-shot-audio-classification",
        "tags:",
        *[f"- {tag}" for tag in tags],
        "---",
        "",
        f"# {name}",
        "",
        "A contrastive language-audio model (CLAP), exported by clapjax.",
        "",
        f"- audio: {seconds:g} s at {audio.sample_rate} Hz, {audio.mel_bins} mels of "
        f"{audio.fmin:g} to {audio.fmax:g} Hz",
        f"- text: up to {text.max_length} tokens, {text.layers} layers of width {text.hidden_size}",
        f"- embeddings: {config.projection_size} numbers, unit length",
        "",
        "## Use",
        "",
        USE[layout].format(name=name, rate=audio.sample_rate, seconds=seconds),
        "```python",
        "import clapjax",
        "",
        f'clap = clapjax.load("{name}")',
        'clap.classify(["dog.wav"], ["dog", "rain"])',
        "```",
    ]
    if results:
        lines += [
            "",
            "## Results",
            "",
            "In brackets: 95 % intervals over clips.",
            "",
            results.strip(),
        ]
    return "\n".join(lines) + "\n"
