#!/usr/bin/env bash
# Runs on a TPU worker, in whose home setup.sh puts it; the other scripts call it through ssh.
#
#   on_worker.sh setup PYTHON BUCKET         install ~/clapjax.tar.gz; mount BUCKET unless it is ""
#   on_worker.sh start RUN TOKEN COMMAND...  start a command, detached; once per TOKEN
#   on_worker.sh status RUN                  "clapjax-status running", "... lost" or "... EXIT_STATUS";
#                                            "clapjax-lost HOST" too where it was lost or killed
#   on_worker.sh stop RUN SECONDS [TOKEN]    SIGTERM, and SIGKILL to what is left after SECONDS;
#                                            with TOKEN only what it started
#   on_worker.sh log RUN LINES [follow]      last lines of its log, and those to come
#
# The processes of a run hold the file `lock` of its folder: whether it is alive needs no process
# number, which a reboot may give to another process.

# shellcheck disable=SC2329 # main calls the functions by their names
set -euo pipefail

die() {
  printf 'on_worker.sh on %s: %s\n' "$(hostname)" "$*" >&2
  exit 2
}

setup() {
  local python=$1 bucket=$2 source=$HOME/clapjax
  rm -rf "$source" "$runs/ready"
  mkdir -p "$source" "$runs"
  tar -xzf "$HOME/clapjax.tar.gz" -C "$source"
  # TPU VM images bring a Python older than clapjax wants.
  export PATH="$HOME/.local/bin:$PATH"
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv
  [[ -x $HOME/clapjax_env/bin/python ]] || uv venv --quiet --python "$python" "$HOME/clapjax_env"
  uv pip install --quiet --python "$HOME/clapjax_env/bin/python" "${source}[tpu,train,buckets]"
  [[ -f $runs/bucket && $(<"$runs/bucket") == "$bucket" ]] || ! mountpoint --quiet "$HOME/bucket" ||
    fusermount -u "$HOME/bucket"
  printf '%s' "$bucket" >"$runs/bucket"
  mount_bucket
  touch "$runs/ready"
  printf 'clapjax-setup %s done\n' "$(hostname)"
}

# Mounts the bucket that setup was told of; a reboot loses the mount.
mount_bucket() {
  local bucket=""
  [[ ! -f $runs/bucket ]] || bucket=$(<"$runs/bucket")
  [[ $bucket ]] || return 0
  ! mountpoint --quiet "$HOME/bucket" || return 0
  command -v gcsfuse >/dev/null || install_gcsfuse
  mkdir -p "$HOME/bucket"
  # Checkpoints are renamed when complete, and every host must see at once what another wrote.
  gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 \
    --metadata-cache-negative-ttl-secs=0 "$bucket" "$HOME/bucket"
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc
  curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update
  sudo apt-get -qq install -y gcsfuse
}

alive() { [[ -f $dir/lock ]] && ! flock --nonblock "$dir/lock" true; }

start() {
  local run=$1 token=$2 command
  shift 2
  printf -v command '%q ' "$@"
  [[ -d $HOME/clapjax ]] || die "no ~/clapjax; run setup.sh first"
  mount_bucket # before the lock is opened, which the mount's process would keep
  mkdir -p "$dir"
  # gcloud repeats a command where it lost the connection: it may have started already.
  if [[ ! -f $dir/token || $(<"$dir/token") != "$token" ]]; then
    exec 9>>"$dir/lock"
    if ! flock --nonblock 9; then
      [[ $(<"$dir/command") == "$command" ]] || die "another command runs as $run; see stop.sh and --run"
      echo "clapjax-start running"
      return
    fi
    rm -f "$dir/status"
    printf '%s' "$command" >"$dir/command"
    printf '%s' "$token" >"$dir/token"
    cd "$HOME/clapjax"
    PATH="$HOME/clapjax_env/bin:$PATH" setsid bash "$me" body "$run" "$@" >>"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
  fi
  echo "clapjax-start new"
}

# The detached process: the command, and a note of how it ended.
body() {
  local status=0
  shift
  trap : TERM # goes to the whole group; this one stays to write the note
  printf -- '--- %s start: %s\n' "$(date -u +%FT%TZ)" "$(<"$dir/command")"
  "$@" || status=$?
  printf -- '--- %s exit status %s\n' "$(date -u +%FT%TZ)" "$status"
  printf '%s\n' "$status" >"$dir/status.new"
  mv "$dir/status.new" "$dir/status"
}

status() {
  local found=lost
  if [[ ! -f $dir/status ]] && alive; then
    found=running
  elif [[ -f $dir/status ]]; then # looked at again: it may have ended in between
    found=$(<"$dir/status")
  fi
  echo "clapjax-status $found"
  [[ ! $found =~ ^(lost|137)$ ]] || echo "clapjax-lost $(hostname)"
}

stop() {
  local signal i
  [[ ! ${3:-} || (-f $dir/token && $(<"$dir/token") == "$3") ]] || return 0
  for signal in TERM KILL; do
    alive || return 0
    kill "-$signal" -- "-$(<"$dir/pid")" 2>/dev/null || true # it may just have ended
    for ((i = 0; i < 5 * $2; i++)); do
      alive || return 0
      sleep 0.2
    done
  done
  ! alive || die "processes of $1 are still alive"
}

log() {
  local follow=()
  [[ ${3:-} != follow ]] || follow=(--follow=name --retry)
  [[ -f $dir/log ]] || die "no run $1"
  tail --lines "$2" "${follow[@]}" "$dir/log" | sed --unbuffered "s/^/$(hostname): /"
}

main() {
  runs=$HOME/clapjax_runs
  case ${1:-} in
    start | body | status | stop | log)
      [[ ${2:-} =~ ^[A-Za-z0-9._-]+$ ]] || die "a run's name has letters, digits, '.', '_' and '-' only"
      dir=$runs/$2
      ;;
    setup) ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
    *) die "unknown verb '${1:-}'; see on_worker.sh --help" ;;
  esac
  me=$(cd "$(dirname "$0")" && pwd)/${0##*/}
  "$@"
}

# In one piece, so that a copy of a newer version over this file does not change a running one.
{
  main "$@"
  exit
}
