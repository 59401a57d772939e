#!/usr/bin/env bash
# T-CLAP in miniature: configs/t_clap.sh on small sets made of the recordings in SOUNDS.
#
#     bash configs/t_clap_mini.sh SOUNDS OUT
#
# SOUNDS is ESC-50 or ESC-10 as published, or a folder like them (meta.csv and audio/). CLIPS is how
# many training clips AudioCaps' miniature has; see configs/t_clap.sh for the others.
set -euo pipefail
sounds=${1:?usage: t_clap_mini.sh SOUNDS OUT} out=${2:?usage: t_clap_mini.sh SOUNDS OUT}
here=$(dirname "$0")
sounds=$(cd "$sounds" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here/.."

if [ ! -e "$out/data/esc50" ]; then
  python -m benchmarks.published_layouts "$sounds" "$out/data" --clips "${CLIPS:-900}"
  ln -sfn "$sounds" "$out/data/esc50"
fi
# Auto-ACD's miniature has too few words for a tokenizer of its own: AudioCaps' tells orders too.
CONFIG=${CONFIG:-configs/t_clap.py:mini} SHARES=${SHARES:-0.4 0.1 0.25} \
  TOKENIZER=$out/audiocaps/tokenizer bash configs/t_clap.sh "$out/data" "$out"
