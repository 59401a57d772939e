#!/usr/bin/env bash
# Deletes a slice and its queued resource, with everything on the workers' disks.
#
#   delete.sh --name N --zone Z
#
#   --name, --zone, --project, --slices, --dry-run   see create.sh
#   --yes   do not ask
set -euo pipefail
# shellcheck source=tpu_scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

YES=""
parse_flags "--yes!YES" "$@"
need TPU_NAME TPU_ZONE
((!${#REST[@]})) || die "unknown argument ${REST[0]}"

# --force deletes the nodes first; without it only a request without nodes can be deleted.
run gcloud compute tpus queued-resources delete "$TPU_NAME" "${PLACE[@]}" --force ${YES:+--quiet}
