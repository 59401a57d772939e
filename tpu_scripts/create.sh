#!/usr/bin/env bash
# Asks for a TPU slice as a queued resource and waits until it is there.
#
#   create.sh --name N --zone Z --type v5litepod-256 --runtime v2-alpha-tpuv5-lite --spot
#
#   --name NAME        of the slice and of its queued resource (or TPU_NAME)
#   --zone ZONE        (or TPU_ZONE)
#   --project PROJECT  (or TPU_PROJECT; else gcloud's default)
#   --type TYPE        accelerator type (or TPU_TYPE): v5litepod-16 and v6e-16 have 16 chips, v5p-16
#                      has 8 (v2 to v5p count TensorCores); `clapjax plan --topology TYPE` says what fits
#   --runtime VERSION  software of the TPU VMs (or TPU_RUNTIME)
#   --spot             cheaper, and may be taken away (or TPU_SPOT=1)
#   --slices N         so many slices of this type, as one run (1, or TPU_SLICES)
#   --no-wait          return when the request is queued
#   --poll SECONDS     how often to look (30)
#   --dry-run          print the commands only
#   -- FLAG...         more flags for `gcloud compute tpus queued-resources create`
#
# Exit status: 0 active; 75 preempted while it came up; 1 the request failed.
set -euo pipefail
# shellcheck source=tpu_scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

TPU_TYPE=${TPU_TYPE:-} TPU_RUNTIME=${TPU_RUNTIME:-} TPU_SPOT=${TPU_SPOT:-} NO_WAIT="" POLL=30
parse_flags "--type=TPU_TYPE --runtime=TPU_RUNTIME --spot!TPU_SPOT --no-wait!NO_WAIT --poll=POLL" "$@"
need TPU_NAME TPU_ZONE TPU_TYPE TPU_RUNTIME

nodes=("--node-id=$TPU_NAME")
((TPU_SLICES == 1)) || nodes=("--node-prefix=$TPU_NAME" "--node-count=$TPU_SLICES")
run gcloud compute tpus queued-resources create "$TPU_NAME" "${PLACE[@]}" "${nodes[@]}" \
  "--accelerator-type=$TPU_TYPE" "--runtime-version=$TPU_RUNTIME" ${TPU_SPOT:+--spot} \
  ${REST[@]+"${REST[@]}"}
[[ $NO_WAIT || $DRY_RUN ]] || wait_until_active "$POLL"
