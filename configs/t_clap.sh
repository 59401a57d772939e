#!/usr/bin/env bash
# T-CLAP from the sets as they are published to its T-Classify, command by command (docs/t_clap.md).
#
#     bash configs/t_clap.sh DATA OUT
#
# DATA holds AudioCaps, Clotho, Auto-ACD and ESC-50 in the folders audiocaps, clotho, autoacd and
# esc50. Whatever was interrupted goes on when the same command is given again. In the environment:
# CONFIG (configs/t_clap.py), NEGATE (--backend rules; for an LLM e.g. "--backend openai --model M"),
# SHARES (of AudioCaps, Clotho and ESC-50 in each batch), TOKENIZER (a folder or hub id), TRAIN
# (further flags of `clapjax train`).
set -euo pipefail
data=${1:?usage: t_clap.sh DATA OUT} out=${2:?usage: t_clap.sh DATA OUT}
config=${CONFIG:-configs/t_clap.py}
read -r audiocaps clotho esc50 <<< "${SHARES:-0.1 0.05 0.1}"
read -ra negate <<< "${NEGATE:---backend rules}"
read -ra train <<< "${TRAIN:-}"
[ -n "${TOKENIZER:-}" ] && train+=("--config.data.tokenizer=$TOKENIZER")
clapjax() { python -m clapjax "$@"; }

# 1. Records of each set. ESC-50 is mixed up; VGGSound's test clips stay out of Auto-ACD where its
#    table is at hand, as in the paper.
exclude=()
[ -f "$data/vggsound.csv" ] && exclude=("--config.source.exclude=('$data/vggsound.csv',)")
for set in autoacd audiocaps clotho; do
  clapjax records build --config "$config" --config.source.kind="$set" \
    --config.source.path="$data/$set" "${exclude[@]}" --data_dir "$out/$set.published"
done
clapjax records build --config "$config" --config.source.kind=esc50 \
  --config.source.path="$data/esc50" --data_dir "$out/esc50_mixup"

# 2. Captions in a wrong order for the human captions, joined to the records.
for set in audiocaps clotho; do
  [ -f "$out/$set.negatives.jsonl" ] || clapjax captions negate "${negate[@]}" \
    --input "$out/$set.published" --output "$out/$set.negatives.jsonl"
  clapjax records annotate "$out/$set" "$out/$set.published" --captions "$out/$set.negatives.jsonl"
done

# 3. Training: Auto-ACD, with a share of the three sets that have negatives in each batch.
mixture="('$out/audiocaps=$audiocaps','$out/clotho=$clotho','$out/esc50_mixup=$esc50')"
clapjax train --config "$config" --data_dir "$out/autoacd.published" --workdir "$out/run" \
  --config.data.mixture="$mixture" --config.evaluation.tasks="('retrieval',)" "${train[@]}"

# 4. T-Classify on the test sets: text-to-audio on all, audio-to-text where a clip has a wrong order.
clapjax eval --model "$out/run" --config "$config" \
  --config.evaluation.tasks="('t_classify','retrieval')" --out "$out/results" --benchmark \
  audiocaps="$out/audiocaps" clotho="$out/clotho" esc50_mixup="$out/esc50_mixup"
