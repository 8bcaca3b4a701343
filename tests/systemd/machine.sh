#!/usr/bin/env bash
# A machine of its own for the tests: a real systemd as PID 1 of new namespaces, over a throw-away
# overlay of this machine's root. Nothing that is done in it reaches this machine, its network is
# its own, and no service of this machine runs there.
#
#   machine.sh start FOLDER [PATH=FOLDER ...]   boot it; each FOLDER is seen in it at PATH
#   machine.sh exec FOLDER COMMAND ...          run something in it
#   machine.sh stop FOLDER                      shut it down; what was written to its disk stays
#   machine.sh remove FOLDER                    shut it down for good
set -euo pipefail

action=$1
folder=$(realpath -m -- "$2")
shift 2
script=$(realpath -- "${BASH_SOURCE[0]}")
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# What would touch devices, the network or the clock, which are this machine's or none.
masked=(systemd-sysctl systemd-networkd systemd-resolved systemd-timesyncd systemd-udevd systemd-logind
  dbus systemd-firstboot getty@ console-getty systemd-binfmt systemd-modules-load
  systemd-hwdb-update e2scrub_reap systemd-networkd-wait-online NetworkManager-wait-online)

start() {
  local groups inner unshared
  mkdir -p "$folder/disk"
  mountpoint -q "$folder/disk" || mount -t tmpfs tmpfs "$folder/disk"
  mkdir -p "$folder/disk"/{upper,work,root}
  groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  if [ -z "$groups" ]; then
    groups=$folder/cgroup2
    mkdir -p "$groups"
    mountpoint -q "$groups" || mount -t cgroup2 none "$groups"
  fi
  inner=$groups/filestored-test-$$
  mkdir "$inner"
  echo "$inner" >"$folder/cgroup"
  # Into the new control group first: so it is the root of the namespace.
  (
    echo "$BASHPID" >"$inner/cgroup.procs"
    exec unshare --pid --fork --mount --uts --ipc --cgroup --net \
      bash "$script" boot "$folder" "$@" >"$folder/console" 2>&1 </dev/null
  ) &
  unshared=$!
  wait_for 'pgrep -x -P '$unshared' systemd' ||
    { cat "$folder/console" >&2; exit 1; }
  pgrep -x -P $unshared systemd >"$folder/pid"
  echo $unshared >"$groups/cgroup.procs" # PID 1 wants no strangers in its group
  wait_for is_up || { cat "$folder/console" >&2; exit 1; }
}

wait_for() {
  for _ in $(seq 400); do
    eval "$1" >/dev/null 2>&1 && return 0
    sleep 0.05
  done
  return 1
}

is_up() {
  case $("$script" exec "$folder" systemctl is-system-running 2>/dev/null) in
    running | degraded) ;;
    *) return 1 ;;
  esac
}

# In the new namespaces: make the root, and let systemd be its PID 1.
boot() {
  local root=$folder/disk/root each
  mount --make-rprivate /
  mount -t overlay overlay "$root" \
    -o "lowerdir=/,upperdir=$folder/disk/upper,workdir=$folder/disk/work"
  mount -t proc proc "$root/proc"
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount -o remount,bind,ro "$root/proc/sys"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" 2>/dev/null || {
    mount -t tmpfs tmpfs "$root/sys/fs"
    mkdir "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  }
  make_devices "$root/dev"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  for each in "$@"; do
    mkdir -p "$root${each%%=*}"
    mount --bind "${each#*=}" "$root${each%%=*}"
  done
  [ -e "$folder/disk/installed" ] || install_nothing "$root"
  cd "$root"
  mkdir -p old
  pivot_root . old
  cd /
  umount -l /old
  ip link set lo up
  exec env -i container=test PATH="$path" /lib/systemd/systemd --system \
    --unit=multi-user.target --log-target=journal --show-status=0
}

make_devices() {
  local each
  mount -t tmpfs -o mode=755 tmpfs "$1"
  mkdir "$1/pts" "$1/shm"
  for each in null zero full random urandom tty; do
    touch "$1/$each"
    mount --bind "/dev/$each" "$1/$each"
  done
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$1/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$1/shm"
  ln -s pts/ptmx "$1/ptmx"
  ln -s /proc/self/fd "$1/fd"
  for each in 0=stdin 1=stdout 2=stderr; do
    ln -s "/proc/self/fd/${each%=*}" "$1/${each#*=}"
  done
}

# A disk on which none of this machine's services is enabled.
install_nothing() {
  local each
  rm -rf "$1/etc/systemd/system" "$1/var/log/journal"
  mkdir -p "$1/etc/systemd/system"
  for each in "${masked[@]}"; do
    ln -s /dev/null "$1/etc/systemd/system/$each.service"
  done
  rm -f "$1"/etc/rc?.d/S* "$1"/etc/init.d/*
  echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id"
  : >"$1/etc/fstab"
  touch "$folder/disk/installed"
}

run() {
  exec nsenter -t "$(cat "$folder/pid")" -m -p -u -i -n -C \
    env -i PATH="${MACHINE_PATH:-$path}" HOME=/root LC_ALL=C.UTF-8 TERM=dumb SYSTEMD_PAGER= "$@"
}

stop() {
  local pid
  [ -e "$folder/pid" ] || return 0
  pid=$(cat "$folder/pid")
  kill -s RTMIN+4 "$pid" 2>/dev/null || true # power off (systemd(1))
  wait_for "! kill -0 $pid" || kill -s KILL "$pid" 2>/dev/null || true
  wait_for "! kill -0 $pid" || true
  find "$(cat "$folder/cgroup")" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  rm -f "$folder/pid"
}

case $action in
  start) start "$@" ;;
  boot) boot "$@" ;;
  exec) run "$@" ;;
  stop) stop ;;
  remove)
    stop
    for each in disk cgroup2; do
      ! mountpoint -q "$folder/$each" || umount "$folder/$each"
    done
    ;;
esac
