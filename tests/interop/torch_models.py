"""Other projects' models, small and with random weights, in torch: what the imports must equal."""

import math
import re
from unittest import mock

import librosa
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from tests.models.torch_models import Pann

MELS = 64


def randomize(model: nn.Module, seed: int = 0, noise: float = 0.05) -> nn.Module:
    """Every parameter and BatchNorm statistic away from its start, so that none is forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim:
                value.add_(noise * torch.randn(value.shape, generator=generator))
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                decibels = name.endswith(("batch_norm", "bn0"))  # the one right behind the mel
                shape = module.running_mean.shape
                mean, spread = (-30.0, 10.0) if decibels else (0.0, 0.1)
                module.running_mean.copy_(mean + spread * torch.randn(shape, generator=generator))
                low, high = (100.0, 300.0) if decibels else (0.5, 1.0)
                module.running_var.copy_(low + high * torch.rand(shape, generator=generator))
    return model.eval()


def transformers_clap(
    fused: bool = False, seed: int = 0, audio: dict | None = None, text: dict | None = None
) -> transformers.ClapModel:
    """A ClapModel of two Swin stages and two text layers."""
    torch.manual_seed(seed)
    config = transformers.ClapConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 34,
        }
        | (text or {}),
        audio_config={
            "spec_size": 128,
            "num_mel_bins": MELS,
            "patch_size": 4,
            "patch_embeds_hidden_size": 8,
            "hidden_size": 16,
            "depths": [2, 4],
            "num_attention_heads": [1, 2],
            "window_size": 4,
            "enable_fusion": fused,
            "fusion_type": "aff_2d" if fused else None,
        }
        | (audio or {}),
        projection_dim=12,
    )
    model = randomize(transformers.ClapModel(config), seed)
    with torch.no_grad():
        model.logit_scale_a.fill_(2.5)
        model.logit_scale_t.fill_(2.75)
    return model


def extractor(fused: bool = False, **settings) -> transformers.ClapFeatureExtractor:
    """The feature extractor that goes with `transformers_clap`: one second at 16 kHz."""
    return transformers.ClapFeatureExtractor(
        **{
            "feature_size": MELS,
            "sampling_rate": 16_000,
            "hop_length": 80,
            "max_length_s": 1,
            "fft_window_size": 512,
            "frequency_min": 50,
            "frequency_max": 7_000,
            "truncation": "fusion" if fused else "rand_trunc",
        }
        | settings
    )


def waves(sample_rate: int, *seconds: float) -> list[np.ndarray]:
    """Noise bursts over a hum, one for each length."""
    rng = np.random.default_rng(0)
    out = []
    for length in seconds:
        time = np.arange(round(length * sample_rate)) / sample_rate
        swell = np.sin(2 * math.pi * 1.7 * time) ** 2
        hum = 0.2 * np.sin(2 * math.pi * rng.uniform(100, 3000) * time)
        out.append((hum + 0.1 * swell * rng.standard_normal(time.size)).astype(np.float32))
    return out


def transformers_mels(features, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """What transformers' models hear of clips, its random places moved to the middle."""
    settings = features.nb_max_samples, features.truncation, features.padding
    with (
        mock.patch("numpy.random.choice", lambda places: places[len(places) // 2]),
        mock.patch("numpy.random.randint", lambda low, high: (low + high - 1) // 2),
    ):
        # Not through __call__, which marks a random clip as longer where none is.
        pairs = [features._get_input_mel(clip, *settings) for clip in clips]
    return {
        "input_features": torch.tensor(np.stack([mel for mel, _ in pairs]), dtype=torch.float32),
        "is_longer": torch.tensor([[longer] for _, longer in pairs]),
    }


def transformers_audio(model, features, clips: list[np.ndarray]) -> np.ndarray:
    """Unit-length embeddings of transformers."""
    with torch.no_grad():
        found = model.get_audio_features(**transformers_mels(features, clips))
    return found.pooler_output.numpy()


def transformers_text(model, tokenizer, texts: list[str]) -> np.ndarray:
    """Unit-length embeddings of transformers."""
    encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return model.get_text_features(
            input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
        ).pooler_output.numpy()


# --- LAION-CLAP -----------------------------------------------------------------------------

HTSAT_NAMES = (  # transformers -> LAION-CLAP
    ("audio_model.audio_encoder.", "audio_branch."),
    (".batch_norm.", ".bn0."),
    ("text_model.", "text_branch."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".attention.output.dense.", ".attn.proj."),
    (".attention.self.relative", ".attn.relative"),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    ("_projection.linear1.", "_projection.0."),
    ("_projection.linear2.", "_projection.2."),
)


def tagging_head(model: transformers.ClapModel, classes: int = 5) -> nn.Conv2d:
    """HTS-AT's head on the tokens (B, C, frequencies, T) of a ClapModel's HTSAT."""
    config = model.config.audio_config
    height = MELS // config.patch_stride[0] // 2 ** (len(config.depths) - 1)
    return nn.Conv2d(config.hidden_size, classes, (height, 3), padding=(0, 1))


def laion_state(
    model: transformers.ClapModel, head: nn.Conv2d | None = None
) -> dict[str, torch.Tensor]:
    """The weights of a ClapModel as LAION-CLAP would have saved them, with what else it saves."""
    head, out = tagging_head(model) if head is None else head, {}
    for name, value in model.state_dict().items():
        if name.startswith("text_model"):
            out[name.replace("text_model.", "text_branch.")] = value
            continue
        fused = ".attention.self.query." in name
        if any(f".attention.self.{part}." in name for part in ("key", "value")):
            continue
        if fused:
            parts = [name.replace("query", part) for part in ("query", "key", "value")]
            value = torch.cat([model.state_dict()[part] for part in parts])
            name = name.replace(".attention.self.query.", ".attn.qkv.")
        for theirs, laions in HTSAT_NAMES:
            name = name.replace(theirs, laions)
        out[name] = value
    classes = head.out_channels
    out |= {
        **{f"audio_branch.tscam_conv.{name}": value for name, value in head.state_dict().items()},
        "audio_branch.head.weight": torch.randn(classes, classes),
        "audio_branch.head.bias": torch.randn(classes),
        "audio_branch.layers.0.blocks.1.attn_mask": torch.zeros(4, 4),
    }
    return out | front_end_state() | transforms_state(model.config.projection_dim)


def front_end_state(
    rate: int = 48_000, window: int = 1024, fmax: float = 14_000, prefix: str = "audio_branch."
) -> dict[str, torch.Tensor]:
    """torchlibrosa's frozen front end, as every checkpoint of LAION-CLAP and PANNs carries it."""
    filters = librosa.filters.mel(sr=rate, n_fft=window, n_mels=MELS, fmin=50, fmax=fmax)
    return {
        f"{prefix}spectrogram_extractor.stft.conv_real.weight": torch.zeros(513, 1, 8),
        f"{prefix}spectrogram_extractor.stft.conv_imag.weight": torch.zeros(513, 1, 8),
        f"{prefix}logmel_extractor.melW": torch.tensor(filters.T),
    }


def transforms_state(size: int) -> dict[str, torch.Tensor]:
    """The heads of mlp_loss, which every LAION-CLAP checkpoint carries too."""
    return {
        f"{side}_transform.sequential.{index}.{kind}": torch.randn(size, size)
        if kind == "weight"
        else torch.randn(size)
        for side in ("audio", "text")
        for index in (0, 3)
        for kind in ("weight", "bias")
    }


def clip_of_10_s(samples: np.ndarray) -> np.ndarray:
    """The middle of what is longer; what is shorter repeated, then padded; at 48 kHz."""
    size = 480_000
    if len(samples) > size:
        return samples[(len(samples) - size) // 2 :][:size]
    samples = np.tile(samples, size // len(samples))
    return np.pad(samples, (0, size - len(samples)))


def log_mel(clip: np.ndarray, sample_rate: int, window: int, hop: int, fmax: float) -> torch.Tensor:
    """(T,) to (frames, 64) dB with librosa's filters, in float64."""
    spectrum = torch.stft(
        torch.tensor(clip, dtype=torch.float64),
        window,
        hop,
        window=torch.hann_window(window, dtype=torch.float64),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    filters = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=MELS, fmin=50, fmax=fmax)
    mel = torch.tensor(filters, dtype=torch.float64) @ spectrum.abs() ** 2
    return (10 * torch.log10(torch.clamp(mel, min=1e-10))).T.float()


PANN_NAMES = (  # of tests.models.torch_models.Pann -> of PANNs
    (r"batch_norm\.", "bn0."),
    (r"block(\d)\.norm", r"conv_block\1.bn"),
    (r"block(\d)\.conv", r"conv_block\1.conv"),
    (r"fc\.", "fc1."),
    (r"fusion\.mel_conv(\d)d_norm", r"mel_conv\1d.1"),
    (r"fusion\.mel_conv(\d)d", r"mel_conv\1d.0"),
    # A pooling stands in front of the global attention.
    (r"fusion\.(fusion_model\.global_att\.)(\d)", lambda m: m[1] + str(int(m[2]) + 1)),
    (r"fusion\.(fusion_model\.)", r"\1"),
)


def pann_state(pann: Pann) -> dict[str, torch.Tensor]:
    """The weights of a PANN under the names that LAION-CLAP and BLAT give them."""
    out = {}
    for name, value in pann.state_dict().items():
        for ours, theirs in PANN_NAMES:
            if re.match(ours, name):
                name = re.sub(f"^{ours}", theirs, name)
                break
        out[name] = value
    return out


def bert(vocab_size: int, **settings) -> transformers.BertModel:
    """A BERT of two layers and two heads of 64."""
    small = {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
    }
    return transformers.BertModel(
        transformers.BertConfig(vocab_size=vocab_size, **small | settings)
    )


class ClipBlock(nn.Module):
    """One pre-norm layer of CLIP's text transformer."""

    def __init__(self, width: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x):
        past = torch.full((x.shape[0],) * 2, -torch.inf).triu(1)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=past)[0]
        return x + self.mlp(self.ln_2(x))


class LaionPann(nn.Module):
    """LAION-CLAP with Cnn14, and BERT or CLIP's text transformer."""

    def __init__(self, vocab_size: int, text: str, width: int = 2, size: int = 12, **settings):
        super().__init__()
        self.audio_branch = Pann("cnn14", width, MELS)
        if text == "bert":
            self.text_branch = bert(vocab_size, **settings)
            hidden = self.text_branch.config.hidden_size
        else:
            hidden = 128
            self.text_branch = nn.Module()
            self.text_branch.resblocks = nn.ModuleList([ClipBlock(hidden) for _ in range(2)])
            self.token_embedding = nn.Embedding(vocab_size, hidden)
            self.positional_embedding = nn.Parameter(0.1 * torch.randn(40, hidden))
            self.ln_final = nn.LayerNorm(hidden)
        self.audio_projection = self._head(width * 32, size)
        self.text_projection = self._head(hidden, size)
        self.logit_scale_a = nn.Parameter(torch.tensor(2.5))
        self.logit_scale_t = nn.Parameter(torch.tensor(2.75))

    def _head(self, inputs: int, size: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, size), nn.ReLU(), nn.Linear(size, size))

    def audio(self, mel):
        return F.normalize(self.audio_projection(self.audio_branch(mel)[0]), dim=-1)

    def text(self, ids, mask):
        if hasattr(self, "token_embedding"):
            x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
            x = x.transpose(0, 1)
            for block in self.text_branch.resblocks:
                x = block(x)
            x = self.ln_final(x.transpose(0, 1))[torch.arange(len(ids)), mask.sum(1) - 1]
        else:
            x = self.text_branch(input_ids=ids, attention_mask=mask).pooler_output
        return F.normalize(self.text_projection(x), dim=-1)

    def saved(self) -> dict[str, torch.Tensor]:
        """What LAION-CLAP would have saved, the parts that are not used included."""
        others = {n: v for n, v in self.state_dict().items() if not n.startswith("audio_branch.")}
        audio = {f"audio_branch.{n}": v for n, v in pann_state(self.audio_branch).items()}
        size = self.text_projection[2].out_features
        return audio | others | front_end_state() | transforms_state(size)


# --- PANNs ----------------------------------------------------------------------------------


class PannTagger(nn.Module):
    """Cnn14 of PANNs, with its tagging head."""

    def __init__(self, classes: int = 5, width: int = 2):
        super().__init__()
        self.encoder = Pann("cnn14", width, MELS)
        self.fc_audioset = nn.Linear(width * 32, classes)

    def forward(self, mel):
        """(1, frames, 64) to (1, classes)."""
        return torch.sigmoid(self.fc_audioset(self.encoder(mel)[0]))

    def saved(self, *front) -> dict[str, torch.Tensor]:
        """What PANNs would have saved."""
        head = {f"fc_audioset.{name}": x for name, x in self.fc_audioset.state_dict().items()}
        return front_end_state(*front, prefix="") | pann_state(self.encoder) | head


# --- BLAT -----------------------------------------------------------------------------------


class Blat(nn.Module):
    """BLAT's AudioTextClip: Cnn14 whose pooling knows the length, BERT's first token."""

    def __init__(self, vocab_size: int, width: int = 2, size: int = 12, **settings):
        super().__init__()
        self.audio_encoder = Pann("cnn14", width, MELS)
        self.text_encoder = nn.Module()
        self.text_encoder.model = bert(vocab_size, **settings)
        self.audio_proj = nn.Linear(width * 32, size)
        self.text_proj = nn.Linear(self.text_encoder.model.config.hidden_size, size)
        self.logit_scale = nn.Parameter(torch.tensor(2.5))

    def audio(self, mel):
        """(1, frames, 64): alone, a row's own length is all there is."""
        return self._unit(self.audio_proj(self.audio_encoder(mel)[0]))

    def text(self, ids, mask):
        hidden = self.text_encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return self._unit(self.text_proj(hidden[:, 0]))

    def saved(self) -> dict[str, torch.Tensor]:
        """What BLAT would have saved."""
        others = {n: v for n, v in self.state_dict().items() if not n.startswith("audio_encoder.")}
        return others | {f"audio_encoder.{n}": v for n, v in pann_state(self.audio_encoder).items()}

    def _unit(self, x):
        return (x / (x.norm(dim=-1, keepdim=True) + 1e-7)).clip(-1e3, 1e3)
