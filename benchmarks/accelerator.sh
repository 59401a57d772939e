#!/usr/bin/env bash
# Runs the accelerator benchmark on a machine with an NVIDIA GPU, which may be bare.
#
#   bash benchmarks/accelerator.sh [--out FILE] [--sections a,b] ...
#
# The arguments are those of `python -m benchmarks.accelerator`. A python3 whose JAX sees the GPU is
# taken as it is. Otherwise a virtual environment is made with what it imports: Flax, Optax, soundfile
# and JAX for CUDA 13 or 12, as the driver allows.
#
#   PYTHON                     the Python to start from (python3; 3.11 or newer)
#   CLAPJAX_ENV                where the environment is made (~/clapjax_cuda)
#   JAX_COMPILATION_CACHE_DIR  compiled programs, so that a second run compiles less
#                              (~/.cache/clapjax_accelerator; "" for none)
set -euo pipefail

say() { printf 'accelerator.sh: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 2
}

sees_gpu() {
  "$1" -c 'import flax, jax, optax, soundfile, soxr; assert jax.devices()[0].platform == "gpu"' >/dev/null 2>&1
}

# Prints cuda13 or cuda12, by the oldest driver that each runs on; CUDA 13 has left Volta behind.
cuda_extra() {
  local answer driver capability
  answer=$(nvidia-smi --query-gpu=driver_version,compute_cap --format=csv,noheader) ||
    die "nvidia-smi fails: is there an NVIDIA GPU, and its driver?"
  IFS=', ' read -r driver capability <<<"${answer%%$'\n'*}"
  [[ $driver =~ ^[0-9]+\. && $capability =~ ^[0-9]+\.[0-9]+$ ]] ||
    die "nvidia-smi says '${answer%%$'\n'*}' in place of a driver and a compute capability"
  if ((${driver%%.*} >= 580 && ${capability/./} >= 75)); then
    echo cuda13
  elif ((${driver%%.*} >= 525)); then
    echo cuda12
  else
    die "driver $driver is too old: JAX needs 525 or newer for CUDA 12, 580 for CUDA 13"
  fi
}

main() {
  local root python=${PYTHON:-python3} environment=${CLAPJAX_ENV:-$HOME/clapjax_cuda} extra
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  if [[ -x $environment/bin/python ]] && sees_gpu "$environment/bin/python"; then
    python=$environment/bin/python
  elif ! sees_gpu "$python"; then
    extra=$(cuda_extra)
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      die "$python is missing or older than 3.11; name another with PYTHON="
    say "making $environment with jax[$extra]"
    "$python" -m venv "$environment" ||
      die "no virtual environment: install python3-venv, or name another Python with PYTHON="
    python=$environment/bin/python
    "$python" -m pip install --quiet -c "$root/requirements-core.txt" "jax[$extra]" flax optax numpy \
      soundfile soxr
    sees_gpu "$python" || die "JAX in $environment does not see the GPU; try: $python -c 'import jax; jax.devices()'"
  fi
  export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR-$HOME/.cache/clapjax_accelerator}
  export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
  exec "$python" -m benchmarks.accelerator "$@"
}

main "$@"
