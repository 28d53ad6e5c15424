#!/usr/bin/env bash
# The embedded all-in-one, left running. A machine's own Docker Engine is used only when asked: DOCKER_HOST=unix:///… make up
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/local/lib.sh
. deploy/local/lib.sh

need_root
PLACE=$(disk_dir "$TARGET")/mothball-up
mkdir -p "$PLACE"
PLACE=$(cd "$PLACE" && pwd)
build() { [ -n "${MOTHBALL_BIN:-}" ] || cargo build --release --locked -p mothball-cli; }

tell() {
  echo
  echo "page       $MOTHBALL_URL/"
  echo "admin key  $MOTHBALL_API_KEY"
  echo
  echo "In another shell:"
  echo "  export MOTHBALL_URL=$MOTHBALL_URL"
  echo "  export MOTHBALL_API_KEY=\$(cat $PLACE/data/admin.key)"
  echo "  $MOTHBALL launch busybox:latest --name box --flavor cpu-small --wait"
  echo "\`make down\` stops it. What it has saved stays in $PLACE."
}

if alive mothball; then
  sign_in
  echo "It runs already."
  tell
  exit 0
fi

# Half a start is worse than none.
trap 'status=$?; [ "$status" -eq 0 ] || { stop_all; echo "it could not be started" >&2; }' EXIT
asked=${DOCKER_HOST:-}
step "Debian packages are there" deploy/debian/setup.sh demo
step "mothball is built" build
if [ -n "$asked" ]; then
  export DOCKER_HOST=$asked
  step "the Docker Engine at $asked answers" docker version
else
  step "a private Docker Engine runs" start_docker
  use_docker
fi
step "a private registry runs" start_registry
if ! docker image inspect mothball-base:1 >/dev/null 2>&1; then
  step "a base image is imported" import_base mothball-base:1
fi
[ -e "$PLACE/mothball.toml" ] || cat >"$PLACE/mothball.toml" <<'TOML'
# The configuration of `make up`; `mothball config --defaults` lists every key.
[[catalog]]
name = "busybox:latest"
image = "mothball-base:1"
type = "Busybox"
TOML
listen=${MOTHBALL_API__LISTEN:-127.0.0.1:8780}
# Somebody else may have the usual port.
if (exec 3<>"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null; then listen=127.0.0.1:0; fi
step "mothball serves, all roles in one process" start_mothball "$listen"
sign_in
tell
