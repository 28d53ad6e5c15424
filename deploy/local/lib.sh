# Private servers for `make demo` and `make up`: a Docker Engine, a registry and Mothball, each with its own sockets, ports and
# directories below one place. Sourced, not run. Everything that is started writes its pid into $PLACE/NAME.pid, and is stopped
# by that pid alone.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$PWD/$TARGET ;; esac
# The tests give a binary of their own; then nothing is built.
MOTHBALL=${MOTHBALL_BIN:-$TARGET/release/mothball}

die() {
  echo "error: $*" >&2
  exit 1
}

now_ms() { date +%s%3N; }

seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# Runs a command as a step: its time when it holds, its output when it does not. In a subshell of its own, because within `if`
# or `||` bash would go on after a command that failed in the middle; so a step hands on what it found in files.
step() {
  local what=$1 begun status
  shift
  begun=$(now_ms)
  set +e
  (
    set -e
    "$@"
  ) >"$PLACE/step.log" 2>&1
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    printf '  %8s  %s\n' "$(seconds_since "$begun")" "$what"
    return 0
  fi
  printf '  %8s  %s: FAILED\n' "$(seconds_since "$begun")" "$what"
  tail -n 40 "$PLACE/step.log" >&2
  return 1
}

need_root() {
  [ "$(id -u)" -eq 0 ] || die "this starts a private Docker Engine, which needs root: run it as root or with sudo"
}

# The first directory on a real disk: overlay mounts cannot be stacked on overlay. The path is short, because the paths of unix
# sockets end at 107 bytes.
disk_dir() {
  local dir type
  for dir in "$@" /var/tmp /tmp; do
    mkdir -p "$dir" 2>/dev/null || continue
    type=$(stat -f -c %T "$dir")
    if [ "${#dir}" -lt 70 ] && [ "$type" != overlayfs ] && [ "$type" != tmpfs ]; then
      echo "$dir"
      return 0
    fi
  done
  echo /tmp
}

# Waits until a command succeeds: wait_for SECONDS COMMAND…
wait_for() {
  local end=$(($(date +%s) + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$end" ] || return 1
    sleep 0.1
  done
}

# Starts a program apart from this shell's group, so that Ctrl-C reaches only the script, which then stops it in order.
launch() {
  local name=$1
  shift
  setsid "$@" >>"$PLACE/$name.log" 2>&1 </dev/null &
  echo $! >"$PLACE/$name.pid"
}

alive() {
  local pid
  pid=$(cat "$PLACE/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ -d "/proc/$pid" ] && [ "$(cut -d' ' -f3 <"/proc/$pid/stat")" != Z ]
}

# Stops what `launch` started: in order, and after SECONDS by force.
halt() {
  local name=$1 limit=$2 pid
  [ -e "$PLACE/$name.pid" ] || return 0
  pid=$(cat "$PLACE/$name.pid")
  if alive "$name"; then
    kill -TERM "$pid" 2>/dev/null || true
    if ! wait_for "$limit" not alive "$name"; then
      echo "$name did not stop within $limit s and is killed" >&2
      kill -KILL "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$PLACE/$name.pid"
}

not() { ! "$@"; }

# A bridge of its own, mbN with the network 10.N.0.0/24. `ip link add` fails where the name is taken, so two at once agree.
make_bridge() {
  local number routes
  if [ -e "$PLACE/bridge" ] && [ -e "/sys/class/net/$(cat "$PLACE/bridge")" ]; then
    return 0
  fi
  for _ in $(seq 200); do
    number=$((RANDOM % 249 + 1))
    routes=$(printf '\t0000%02X0A\t' "$number")
    if grep -q "$routes" /proc/net/route 2>/dev/null; then continue; fi
    if ip link add "mb$number" type bridge 2>/dev/null; then
      echo "mb$number" >"$PLACE/bridge"
      ip address add "10.$number.0.1/24" dev "mb$number"
      ip link set "mb$number" up
      return 0
    fi
  done
  return 1
}

remove_bridge() {
  [ -e "$PLACE/bridge" ] || return 0
  ip link delete "$(cat "$PLACE/bridge")" 2>/dev/null || true
  rm -f "$PLACE/bridge"
}

start_docker() {
  local dir=$PLACE/docker
  mkdir -p "$dir"
  # The machine's own /etc/docker/daemon.json is for the machine's own engine.
  echo '{}' >"$dir/daemon.json"
  # What a killed predecessor left would pass for alive.
  rm -f "$dir/docker.pid" "$dir/docker.sock" "$dir/exec/containerd/containerd.pid"
  make_bridge
  launch docker dockerd --config-file "$dir/daemon.json" --host "unix://$dir/docker.sock" --data-root "$dir/data" \
    --exec-root "$dir/exec" --pidfile "$dir/docker.pid" --bridge "$(cat "$PLACE/bridge")" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/mothball-$(cat "$PLACE/bridge")" \
    --iptables=false --ip-forward=false --ip-masq=false
  wait_for 60 docker_answers || { tail -n 20 "$PLACE/docker.log"; return 1; }
}

# Points the docker command at the private engine.
use_docker() {
  export DOCKER_HOST=unix://$PLACE/docker/docker.sock DOCKER_CONFIG=$PLACE/docker/client
  unset DOCKER_CONTEXT
}

docker_answers() { curl -fsS --noproxy '*' --unix-socket "$PLACE/docker/docker.sock" http://docker/_ping; }

stop_docker() {
  halt docker 60
  # Its containerd follows it, a moment later; one that does not is named by its own pid file.
  local child
  child=$(cat "$PLACE/docker/exec/containerd/containerd.pid" 2>/dev/null || true)
  if [ -n "$child" ] && [ "$(cat "/proc/$child/comm" 2>/dev/null)" = containerd ]; then
    wait_for 5 test ! -d "/proc/$child" || kill -KILL "$child" 2>/dev/null || true
  fi
  # Mounts may remain after the daemon; nothing below them may be removed while they do.
  local mount
  awk -v dir="$PLACE/docker/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
    umount -l "$mount" 2>/dev/null || true
  done
  remove_bridge
}

# The port is kept for the next start, because it is part of every image's name.
start_registry() {
  local port
  mkdir -p "$PLACE/registry"
  for _ in $(seq 20); do
    port=$(cat "$PLACE/registry.port" 2>/dev/null || echo $((RANDOM % 20000 + 12000)))
    cat >"$PLACE/registry.yml" <<YML
version: 0.1
storage:
  filesystem:
    rootdirectory: $PLACE/registry
  delete:
    enabled: true
http:
  addr: 127.0.0.1:$port
  secret: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
YML
    launch registry docker-registry serve "$PLACE/registry.yml"
    # Whoever else has the port may answer too: ours must be alive a moment later.
    if wait_for 15 registry_settled "$port" && sleep 0.2 && alive registry; then
      echo "$port" >"$PLACE/registry.port"
      return 0
    fi
    if alive registry; then halt registry 5; fi
    rm -f "$PLACE/registry.pid" "$PLACE/registry.port"
  done
  tail -n 20 "$PLACE/registry.log"
  return 1
}

registry_settled() { not alive registry || curl -fsS --noproxy '*' "http://127.0.0.1:$1/v2/"; }

registry_address() { echo "127.0.0.1:$(cat "$PLACE/registry.port")"; }

# An image of four megabytes made without a network: Debian's static busybox, and some files to change.
import_base() {
  local tree=$PLACE/base applet
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,dev,etc,home,proc,root,sys,tmp,usr,var}
  chmod 1777 "$tree/tmp"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
  done < <("$tree/bin/busybox" --list)
  echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
  echo 'root:x:0:' >"$tree/etc/group"
  echo 'an untouched base image' >"$tree/etc/motd"
  echo 'to be deleted' >"$tree/etc/obsolete"
  # Idle, and gone at once when asked to stop: a shell as the first process ignores SIGTERM unless it has a trap.
  tar --numeric-owner --owner=0 --group=0 -C "$tree" -c . | docker import \
    --change 'CMD ["sh", "-c", "trap '"'exit 0'"' TERM; while :; do sleep 3600 & wait $!; done"]' - "$1"
  rm -rf "$tree"
}

# Starts the all-in-one: start_mothball LISTEN.
start_mothball() {
  : >"$PLACE/mothball.out"
  MOTHBALL_DATA_DIR=$PLACE/data MOTHBALL_API__LISTEN=$1 MOTHBALL_REGISTRY__URL=http://$(registry_address) \
    MOTHBALL_WORKER__DOCKER_HOST=$DOCKER_HOST \
    setsid "$MOTHBALL" serve --config "$PLACE/mothball.toml" >"$PLACE/mothball.out" 2>>"$PLACE/mothball.log" </dev/null &
  echo $! >"$PLACE/mothball.pid"
  if ! wait_for 60 mothball_settled || ! alive mothball ||
    ! wait_for 60 curl -fsS --noproxy '*' "$(mothball_url)/readyz"; then
    tail -n 20 "$PLACE/mothball.log"
    return 1
  fi
}

mothball_url() { sed -n 's/^listening on //p' "$PLACE/mothball.out"; }

# Makes the user commands those of the admin.
sign_in() {
  MOTHBALL_URL=$(mothball_url)
  MOTHBALL_API_KEY=$(cat "$PLACE/data/admin.key")
  export MOTHBALL_URL MOTHBALL_API_KEY
}

mothball_settled() { not alive mothball || grep -q '^listening on ' "$PLACE/mothball.out"; }

stop_all() {
  halt mothball 60
  halt registry 10
  stop_docker
}
