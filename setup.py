"""What pyproject.toml cannot say.

The shipped configs travel inside the package, where `--config configs/demo.py` finds them from any
folder; and what is required stands in the files that README's two commands install.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def lines(name: str) -> list[str]:
    """The requirements in a file."""
    found = map(str.strip, (HERE / name).read_text("utf-8").splitlines())
    return [line for line in found if line and not line.startswith("#")]


setup(
    install_requires=lines("requirements-core.txt"),
    extras_require={
        "train": lines("requirements-train.txt"),
        "app": ["gradio>=6.31,<7", "pillow>=11"],
        "index": ["faiss-cpu>=1.14,<1.16"],
        "tpu": ["jax[tpu]>=0.10.2,<0.11"],
        "cuda12": ["jax[cuda12]>=0.10.2,<0.11"],
        "cuda13": ["jax[cuda13]>=0.10.2,<0.11"],
        "torch": ["torch>=2.9"],
        "llm": ["openai>=3.52,<4"],
        "media": ["av>=16"],
        "iree": ["iree-base-compiler>=3.13,<4", "iree-base-runtime>=3.13,<4"],
        "beam": ["apache-beam>=2.70"],
        "buckets": ["gcsfs>=2026.1", "s3fs>=2026.1", "etils[epath]>=1.12"],
        "notebooks": ["jupyter>=1.1", "nbclient>=0.10"],
    },
    packages=[*find_packages(include=["clapjax", "clapjax.*"]), "clapjax.configs"],
    package_dir={"clapjax.configs": "configs"},
    package_data={"clapjax": ["py.typed"], "clapjax.configs": ["*.sh"]},
)
