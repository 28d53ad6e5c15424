# Waits for the end of its input, which the test process holds open, then removes every trace of one server.
# It runs the same way when the server is dropped and when the test process was killed.
#
#   $1  mark: every process of the server carries HARNESS_MARK=<mark> in its environment, and every container of a
#       private dockerd lives in the cgroup <mark>. A pid alone could have been given to a stranger; a mark cannot.
#   $2  the server's directory, with its mounts
trap '' INT TERM HUP
mark=$1
dir=$2
links=
while read -r word value; do
  case $word in
    link) links="$links $value" ;;
  esac
done

marked() {
  grep -lsz "^HARNESS_MARK=$mark\$" /proc/[0-9]*/environ
  grep -ls "/$mark/" /proc/[0-9]*/cgroup
}
# Without the dead that nobody has reaped: an orphan's new parent may take seconds.
ours() {
  marked | while IFS=/ read -r _ _ pid _; do
    if read -r stat 2>/dev/null <"/proc/$pid/stat"; then
      case $stat in *") Z "*) ;; *) echo "$pid" ;; esac
    fi
  done
}
mounts() {
  while read -r _ path _; do
    case $path in "$dir"/*) echo "$path" ;; esac
  done </proc/mounts | sort -r
}

rounds=0
while pids=$(ours) && [ -n "$pids" ] && [ "$rounds" -lt 500 ]; do
  for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
  rounds=$((rounds + 1))
  sleep 0.02
done

# The sockets of containerd's shims stand outside our directory; their addresses stand inside.
for file in "$dir"/exec/containerd/daemon/io.containerd.runtime.v2.task/*/*/address; do
  if [ -e "$file" ]; then rm -f "$(sed 's#^unix://##' "$file")"; fi
done
for link in $links; do ip link delete "$link" 2>/dev/null; done
rounds=0
while paths=$(mounts) && [ -n "$paths" ] && [ "$rounds" -lt 50 ]; do
  echo "$paths" | while read -r path; do umount -l "$path" 2>/dev/null; done
  rounds=$((rounds + 1))
done
for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
  if [ -d "$root/$mark" ]; then find "$root/$mark" -depth -type d -exec rmdir {} + 2>/dev/null; fi
done
# Never through a mount: what is mounted below may be somebody else's files.
if [ -z "$(mounts)" ]; then rm -rf --one-file-system "$dir"; fi
