# 2 min on Colab, once: installs clapjax for the chip that is here, before JAX is imported.
import glob
import importlib
import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import sys

# Or the folder of a checkout.
SOURCE = os.environ.get("CLAPJAX_SOURCE", "git+https://github.com/REPOSITORY")


def accelerator():
    """The extra of clapjax for the chip that is here; "" for a CPU."""
    if importlib.util.find_spec("libtpu") or glob.glob("/dev/vfio/[0-9]*"):
        return "tpu"
    asked = ["nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True) if shutil.which(asked[0]) else None
    if told is None or told.returncode:
        return ""
    driver, capability = told.stdout.splitlines()[0].split(",")
    # CUDA 13 needs a new driver, and has left Volta behind.
    new = int(driver.split(".")[0]) >= 580 and float(capability) >= 7.5
    return "cuda13" if new else "cuda12"


def install():
    """Brings clapjax, and the JAX and Flax that it needs, which are newer than Colab's."""
    if "jax" in sys.modules:
        raise RuntimeError("JAX is imported already: Runtime > Restart session, then this first")
    extras = ",".join(filter(None, ["train", accelerator()]))
    wanted = f"{SOURCE}[{extras}]" if os.path.isdir(SOURCE) else f"clapjax[{extras}] @ {SOURCE}"
    pip = [sys.executable, "-m", "pip"]
    # Its files would mix with those of tensorflow-cpu, which clapjax takes.
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "tensorflow"], check=True)
    print(wanted)
    subprocess.run([*pip, "install", "--quiet", wanted], check=True)
    importlib.invalidate_caches()


if importlib.util.find_spec("clapjax") is None:
    install()

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("absl").setLevel(logging.CRITICAL)  # TFDS and Orbax tell much of themselves

import clapjax
from clapjax.cli.main import main
from clapjax.memory import keep_memory

keep_memory()


def run(command):
    """`clapjax COMMAND`, in this process: a TPU serves one only."""
    if main(shlex.split(command)):
        raise RuntimeError(f"clapjax {command}: what is wrong stands above")


import jax

print(f"clapjax {clapjax.__version__}, JAX {jax.__version__} on {jax.devices()[0].device_kind}")
