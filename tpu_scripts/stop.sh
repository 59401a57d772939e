#!/usr/bin/env bash
# Stops a run on every worker: SIGTERM, on which training saves a checkpoint, later SIGKILL.
# End restart.sh first, which would start it again.
#
#   stop.sh --name N --zone Z
#
#   --name, --zone, --project, --internal-ip, --slices, --dry-run   see create.sh
#   --run RUN        name of the run (train)
#   --grace SECONDS  between SIGTERM and SIGKILL (300)
set -euo pipefail
# shellcheck source=tpu_scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUN=train GRACE=300
parse_flags "--run=RUN --grace=GRACE" "$@"
need TPU_NAME TPU_ZONE
((!${#REST[@]})) || die "unknown argument ${REST[0]}"

on_workers all bash on_worker.sh stop "$RUN" "$GRACE"
