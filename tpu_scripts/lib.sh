# shellcheck shell=bash
# What the scripts beside it share: flags, errors, and how gcloud is called. Runs in bash 3.2 (macOS).

# Flags of every script: "--flag=VARIABLE" takes a value, "--flag!VARIABLE" is a switch.
COMMON_FLAGS="--name=TPU_NAME --zone=TPU_ZONE --project=TPU_PROJECT --internal-ip!TPU_INTERNAL_IP
  --slices=TPU_SLICES --dry-run!DRY_RUN"
export TPU_NAME="${TPU_NAME:-}" TPU_ZONE="${TPU_ZONE:-}" TPU_PROJECT="${TPU_PROJECT:-}"
export TPU_INTERNAL_IP="${TPU_INTERNAL_IP:-}" TPU_SLICES="${TPU_SLICES:-1}" DRY_RUN="${DRY_RUN:-}"

EX_TEMPFAIL=75 # sysexits.h; from a training command: "start me again"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  say "$*"
  exit 2
}

# The comment at the top of the script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# parse_flags "SPEC..." ARGUMENT...: sets the variables of the flags; REST is what follows them.
parse_flags() {
  local spec="$1 $COMMON_FLAGS" word flag entry value
  shift
  while (($#)); do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --) shift && break ;;
      -*) ;;
      *) break ;;
    esac
    word=$1 flag=${1%%=*}
    shift
    for entry in $spec ""; do
      [[ ${entry%%[=!]*} != "$flag" ]] || break
    done
    [[ $entry ]] || die "unknown flag $flag; see ${0##*/} --help"
    if [[ $entry == *!* ]]; then
      [[ $word == "$flag" ]] || die "$flag takes no value"
      value=1
    elif [[ $word == *=* ]]; then
      value=${word#*=}
    else
      value=""
      [[ ${1:--} == -* ]] || { value=$1 && shift; }
    fi
    [[ $value ]] || die "$flag needs a value"
    printf -v "${entry#*[=!]}" %s "$value"
  done
  REST=("$@")
}

# need TPU_NAME...: one error for all that were given neither as a flag nor in the environment.
need() {
  local variable missing=""
  for variable in "$@"; do
    [[ ${!variable} ]] || missing+=", --$(tr '[:upper:]' '[:lower:]' <<<"${variable#TPU_}") (or $variable in the environment)"
  done
  [[ ! $missing ]] || die "missing ${missing#, }"
  [[ $TPU_SLICES =~ ^[1-9][0-9]*$ ]] || die "--slices (or TPU_SLICES) is a number from 1 on, not $TPU_SLICES"
  PLACE=("--zone=$TPU_ZONE")
  # Several slices are the nodes of one queued resource.
  REACH=(gcloud compute tpus tpu-vm) NODES=()
  ((TPU_SLICES == 1)) || REACH=(gcloud compute tpus queued-resources) NODES=(--node=all)
  [[ ! $TPU_PROJECT ]] || PLACE+=("--project=$TPU_PROJECT")
}

# Arguments as one string that a shell reads back as the same arguments.
quote() {
  local word words="" escaped="'\\''"
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=\'${word//\'/"$escaped"}\'
    words+=" $word"
  done
  printf %s "${words# }"
}

# Runs a command; in a dry run only prints it.
run() {
  if [[ $DRY_RUN ]]; then
    printf '%s\n' "$(quote "$@")"
  else
    "$@"
  fi
}

# pack DIR FILE: a git checkout as it is now, but for what git ignores.
pack() {
  local file
  git -C "$1" rev-parse --git-dir >/dev/null 2>&1 || die "$1 is not a git checkout; see --source"
  git -C "$1" ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
      [[ ! -e $1/$file ]] || printf '%s\0' "$file" # git still lists what was deleted
    done | tar -czf "$2" -C "$1" --null -T -
}

# on_workers WHICH COMMAND...: WHICH is a worker's number or "all", as gcloud takes them. With "all",
# gcloud waits for every worker and exits with the status of the first of those that failed. Of
# several slices a number is that of the worker in each.
on_workers() {
  local which=$1
  shift
  run "${REACH[@]}" ssh "$TPU_NAME" "${PLACE[@]}" ${TPU_INTERNAL_IP:+--internal-ip} \
    ${NODES[@]+"${NODES[@]}"} "--worker=$which" "--command=$(quote "$@")"
}

# The queued resource's state; GONE where there is none, UNKNOWN where gcloud cannot tell.
queue_state() {
  local answer
  if answer=$(gcloud compute tpus queued-resources describe "$TPU_NAME" "${PLACE[@]}" \
    '--format=value(state.state)' 2>&1); then
    tail -n 1 <<<"$answer"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo GONE
  else
    say "${answer##*$'\n'}"
    echo UNKNOWN
  fi
}

# Is the slice certainly taken away? (Not where gcloud cannot tell.)
preempted() {
  local state
  state=$(queue_state)
  [[ $state =~ ^(SUSPENDING|SUSPENDED|DELETING|GONE)$ ]] || return 1
  say "$TPU_NAME was preempted (queued resource $state)"
}

# wait_until_active SECONDS: looks that often. Returns EX_TEMPFAIL where it was preempted meanwhile.
wait_until_active() {
  local state last=""
  while :; do
    state=$(queue_state)
    [[ $state == "$last" ]] || say "$TPU_NAME is $state"
    last=$state
    case $state in
      ACTIVE) return 0 ;;
      FAILED) return 1 ;;
      SUSPENDING | SUSPENDED | DELETING | GONE) return "$EX_TEMPFAIL" ;;
    esac
    sleep "$1"
  done
}
