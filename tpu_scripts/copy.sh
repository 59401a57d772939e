#!/usr/bin/env bash
# Copies a folder of records or checkpoints to or from a bucket; what is there already is not copied
# again, and checkpoints that are still being written are left out.
#
#   copy.sh data/records gs://my-bucket/records                     from this machine
#   copy.sh gs://my-bucket/runs/laion runs/laion                    to this machine
#   copy.sh --name N --zone Z --worker all gs://my-bucket/records records    to each worker's disk
#
#   --worker W   on that worker (a number, or all) rather than here; paths there start at its home
#   --delete     also delete at the destination what the source lacks
#   --name, --zone, --project, --internal-ip, --slices, --dry-run   see create.sh; needed with --worker only
set -euo pipefail
# shellcheck source=tpu_scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

WORKER="" DELETE=""
parse_flags "--worker=WORKER --delete!DELETE" "$@"
((${#REST[@]} == 2)) || die "give a source and a destination; see copy.sh --help"
[[ "${REST[0]}" == gs://* || "${REST[1]}" == gs://* ]] || die "neither ${REST[0]} nor ${REST[1]} begins with gs://"

copy=(gcloud storage rsync --recursive '--exclude=.*\.orbax-checkpoint-tmp.*'
  ${DELETE:+--delete-unmatched-destination-objects} "${REST[@]}")
[[ ! $WORKER ]] || need TPU_NAME TPU_ZONE

there() {
  if [[ $WORKER ]]; then
    on_workers "$WORKER" "$@"
  else
    run "$@"
  fi
}

# gcloud wants a local destination to exist.
[[ "${REST[1]}" == gs://* ]] || there mkdir -p -- "${REST[1]}"
there "${copy[@]}"
