#!/usr/bin/env bash
# Stops what `make up` started. Containers of its private Docker Engine stop with it; images, containers and records stay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/local/lib.sh
. deploy/local/lib.sh

PLACE=$(disk_dir "$TARGET")/mothball-up
if [ ! -d "$PLACE" ] || [ -z "$(find "$PLACE" -maxdepth 1 -name '*.pid' -print -quit)" ]; then
  echo "nothing of \`make up\` runs"
  exit 0
fi
need_root
PLACE=$(cd "$PLACE" && pwd)
step "stopped" stop_all
echo "What it has saved stays in $PLACE; remove it with: rm -rf $PLACE"
