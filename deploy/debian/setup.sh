#!/usr/bin/env bash
# Installs the Debian packages that Mothball's make targets need, and nothing that is there already.
#   deploy/debian/setup.sh demo    what `make demo` and `make up` need
#   deploy/debian/setup.sh test    what `make test` needs as well
#   deploy/debian/setup.sh bench   what `make bench` needs: pip for the packages that are saved, and a rival
# No service is enabled or started: everything Mothball's targets start is private to them.
set -euo pipefail

demo=(gcc libc6-dev make pkg-config nasm autoconf automake libtool busybox-static docker.io docker-registry iproute2 iptables curl ca-certificates jq procps)
tests=("${demo[@]}" rabbitmq-server redis-server apache2-utils faketime python3-aiosmtpd)
bench=("${demo[@]}" python3-venv buildah)

case "${1:-}" in
  demo) wanted=("${demo[@]}") ;;
  test) wanted=("${tests[@]}") ;;
  bench) wanted=("${bench[@]}") ;;
  *) echo "usage: $0 demo|test|bench" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup needs root to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing Debian packages: ${missing[*]}"

# Debian starts a service as soon as it is installed; this machine's ports are not ours to take.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  made_policy=1
fi
cleanup() { if [ -n "$made_policy" ]; then "${as_root[@]}" rm -f "$policy"; fi; }
trap cleanup EXIT

log=$(mktemp)
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}" >"$log" 2>&1
}
# A machine that has never run `apt-get update` finds no package: then, and only then, ask for the lists.
if ! install; then
  "${as_root[@]}" apt-get update -o DPkg::Lock::Timeout=300 >>"$log" 2>&1 || true
  install || { cat "$log" >&2; echo "installing ${missing[*]} failed; the log above says why" >&2; exit 1; }
fi
rm -f "$log"
