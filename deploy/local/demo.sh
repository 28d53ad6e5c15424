#!/usr/bin/env bash
# The main job, end to end, on a real container: launch, change files, save, verify, delete, launch from the image, and look
# whether the files are there. Everything it starts is private to it and stopped at its end, however it ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/local/lib.sh
. deploy/local/lib.sh

begun=$(now_ms)
need_root
PLACE=$(mktemp -d "$(disk_dir "$TARGET/demo")/mb-demo-XXXXXX")
held=
clean_up() {
  local status=$?
  trap - EXIT
  step "everything that was started is stopped" stop_all || status=1
  if [ -z "$held" ] && [ -s "$PLACE/mothball.log" ]; then
    echo "the end of the server's log:" >&2
    tail -n 30 "$PLACE/mothball.log" >&2
  fi
  rm -rf "$PLACE" || status=1
  if [ -z "$held" ] || [ "$status" -ne 0 ]; then
    echo "the demo FAILED after $(seconds_since "$begun")" >&2
    [ "$status" -ne 0 ] || status=1
  else
    echo "every step held, in $(seconds_since "$begun")"
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

build() { [ -n "${MOTHBALL_BIN:-}" ] || cargo build --release --locked -p mothball-cli; }
json() { "$MOTHBALL" -o json "$@"; }
in_box() { docker exec "$(json containers show "$1" | jq -re .docker_id)" sh -c "$2"; }

echo "Mothball: save a container, prove the image, delete the container, bring it back"
step "Debian packages are there" deploy/debian/setup.sh demo
step "mothball is built" build
step "a private Docker Engine runs" start_docker
use_docker
step "a private registry runs" start_registry
REGISTRY=$(registry_address)
step "a base image is imported" import_base mothball-demo-base:1
cat >"$PLACE/mothball.toml" <<'TOML'
[worker]
node = "demo-node"

[[catalog]]
name = "busybox-demo:latest"
image = "mothball-demo-base:1"
type = "Busybox"
TOML
step "mothball serves, all roles in one process" start_mothball 127.0.0.1:0
sign_in

step "launch: container box" json launch busybox-demo:latest --name box --flavor cpu-small --env API_KEY=not-in-the-image --wait
first=$(json containers show box | jq -re .id)

change_files() {
  # shellcheck disable=SC2016  # to be expanded in the container
  in_box box 'set -e; echo "changed in the box" >/etc/motd; rm /etc/obsolete; mkdir -p /opt/model
    dd if=/dev/urandom of=/opt/model/weights.bin bs=1M count=16 2>/dev/null; chmod 640 /opt/model/weights.bin'
  in_box box 'sha256sum </opt/model/weights.bin' >"$PLACE/sum"
  [ -s "$PLACE/sum" ]
}
step "change files in it: one added (16 MB), one changed, one deleted" change_files

save() { json save box --tag demo --wait >"$PLACE/save.json"; }
step "save it as busybox-demo:demo; it goes on running" save
goes_on() {
  [ "$(json containers show box | jq -re .state)" = ready ]
  in_box box true
}
step "it does go on running" goes_on

# Without Docker and without Mothball: the manifest by its digest, and every blob, over plain HTTP, hashed here.
verify() {
  local reference repository digest manifest blob
  reference=$(json images show busybox-demo:demo | jq -re .reference)
  digest=${reference##*@}
  repository=${reference%@*}
  repository=${repository#"$REGISTRY"/}
  manifest=$PLACE/manifest.json
  get() { curl -fsS --noproxy '*' -H 'Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/$repository/$1"; }
  get "manifests/$digest" >"$manifest"
  [ "sha256:$(sha256sum <"$manifest" | cut -d' ' -f1)" = "$digest" ]
  jq -re '.config.digest, .layers[].digest' "$manifest" >"$PLACE/blobs"
  while read -r blob; do
    get "blobs/$blob" >"$PLACE/blob"
    [ "sha256:$(sha256sum <"$PLACE/blob" | cut -d' ' -f1)" = "$blob" ]
  done <"$PLACE/blobs"
  # The last layer is the container's own: the added file is in it, and the launcher's key is in no config.
  tar -tzf "$PLACE/blob" >"$PLACE/names"
  grep -qx 'opt/model/weights.bin' "$PLACE/names"
  get "blobs/$(jq -re .config.digest "$manifest")" >"$PLACE/config.json"
  not grep not-in-the-image "$PLACE/config.json"
}
step "verify: manifest and blobs read back over plain HTTP, each with its digest" verify

delete() {
  json delete box --yes --wait
  not docker inspect "$docker_id"
}
docker_id=$(json containers show box | jq -re .docker_id)
step "delete the container; Docker does not know it any more" delete

step "launch box again, from the image" json launch busybox-demo:demo --name box --flavor cpu-small --wait
files_are_there() {
  [ "$(in_box box 'sha256sum </opt/model/weights.bin')" = "$(cat "$PLACE/sum")" ]
  [ "$(in_box box 'cat /etc/motd')" = 'changed in the box' ]
  in_box box 'test ! -e /etc/obsolete'
  [ "$(in_box box 'stat -c %a /opt/model/weights.bin')" = 640 ]
}
step "the files are there: added, changed and deleted as they were" files_are_there
step "delete it as well" json delete box --yes --wait

json containers show "$first" >"$PLACE/first.json"
price=$(jq -re .cost.per_hour "$PLACE/first.json")
cost=$(jq -re .cost.so_far "$PLACE/first.json")
currency=$(jq -re .cost.currency "$PLACE/first.json")
LC_ALL=C awk -v price="$price" -v cost="$cost" -v currency="$currency" 'BEGIN {
  printf "  money     the container cost %.4f %s while it was there; left running for 30 days it would have cost %.2f %s.\n",
    cost, currency, price * 720, currency
  printf "            One GPU (c.super, 58 TWD an hour) parked for 14 hours a night and over weekends saves about %.0f TWD in 30 days.\n",
    58 * (22 * 14 + 8 * 24)
}'
held=yes
