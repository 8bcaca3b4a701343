#!/usr/bin/env bash
# Makes filestored a service of this machine: starts it now and at every boot, in a sandbox, as a
# user of its own. Run it again to change an option or to take up a new version; nothing is asked.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: sudo ./setup_systemd.sh [option ...]

  --service_name NAME  name of the service, of its user and folders (default filestored)
  --host ADDRESS       address to listen on (default 0.0.0.0)
  --port PORT          port to listen on (default 9000)
  --log LEVEL          least level that is logged (default DEBUG)
  --listen LENGTH      least length of the accept queue (default 5)
  --buffer BYTES       bytes received at once (default 4096)
  --user, --group      run as these, and not as a user of its own
  --socket             let systemd hold the listening socket: no connection is refused, ever
  --dry-run            print what would be done, and the units; change nothing
  --uninstall          stop and remove the service; stored files, and their user, stay
  --purge              with --uninstall: remove stored files and user as well
  --help               print this

and every option of the daemon (main.py --help). What is not given is as main.py has it; the files
are in /var/lib/NAME unless --store says otherwise, and logs in the journal and /var/log/NAME.
TEXT
}

home=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
venv=$home/.venv
units=/etc/systemd/system
name=filestored kind=plain action=install dry='' purge=''
options=()

fail() {
  printf 'filestored: %s\n' "$1" >&2
  exit "${2:-1}"
}

read_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --service_name=* | --service-name=*) name=${1#*=} ;;
      --service_name | --service-name)
        [ $# -gt 1 ] || fail "$1 needs a name" 2
        name=$2 && shift ;;
      --socket) kind=socket ;;
      --dry-run) dry=1 ;;
      --uninstall) action=uninstall ;;
      --purge) purge=1 ;;
      -h | --help) usage && exit 0 ;;
      *) options+=("$1") ;;
    esac
    shift
  done
  # It is part of paths that root writes to and removes.
  [[ $name =~ ^[a-z][a-z0-9_-]{0,30}$ ]] ||
    fail "--service_name: '$name' is not of a-z, 0-9, - and _, 31 at most" 2
  [ -z "$purge" ] || [ $action = uninstall ] || fail "--purge goes with --uninstall" 2
  [ $action = install ] || [ ${#options[@]} = 0 ] || fail "--uninstall takes no ${options[0]}" 2
}

# Do it, or only say so.
run() {
  if [ -n "$dry" ]; then
    printf '+'
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# Write a file, if it is not so already; tells by its status whether it was not.
write() {
  if [ -e "$1" ] && printf '%s' "$2" | cmp -s - "$1"; then
    return 1
  elif [ -n "$dry" ]; then
    printf '+ write %s\n' "$1"
    printf '%s' "$2" | sed 's/^/    /'
  else
    printf '%s' "$2" >"$1.new"
    chmod 644 "$1.new"
    mv -f "$1.new" "$1"
  fi
}

check_machine() {
  if [ ! -d /run/systemd/system ]; then
    fail "systemd does not run here: 'make start' starts the daemon in the background, and
'$venv/bin/python main.py run' in the foreground, for another supervisor or a container" 3
  fi
  [ -n "$dry" ] || [ "$(id -u)" = 0 ] || fail "only root can set up a service: sudo $0"
}

# Debian keeps the part of Python that makes virtual environments in a package of its own.
find_python() {
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
      run apt-get update -qq
      DEBIAN_FRONTEND=noninteractive run apt-get install -y -qq --no-install-recommends python3-venv
    else
      fail "python3 and its venv module are missing: install them first"
    fi
  fi
  [ -z "$dry" ] || command -v python3 >/dev/null || exit 0
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed; this is $(python3 --version)"
}

# The daemon's own parser reads the options: what it refuses is refused here, before anything is done.
unit() {
  (cd -- "$home" && python3 -B -m httpd.process.unit "$1" "$name" "$kind" "$venv/bin/python" \
    "${options[@]}")
}

make_venv() {
  if [ ! -e "$venv/.ready" ] || [ "$home/requirements.txt" -nt "$venv/.ready" ]; then
    printf 'setting up %s\n' "$venv"
    (
      umask 022
      run python3 -m venv "$venv"
      run "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$home/requirements.txt"
      run touch "$venv/.ready"
    )
  fi
  # The service may not write here, and would compile its code again at every start.
  (umask 022 && run "$venv/bin/python" -m compileall -q "$home/httpd" "$home/main.py")
}

check_readable() {
  local closed
  [ -e "$venv" ] || return 0
  closed=$(find "$home/main.py" "$home/httpd" "$venv" ! -type l ! -perm -004 -print -quit)
  [ -z "$closed" ] || fail "$user could not read $closed: chmod -R o+rX '$home/main.py' '$home/httpd' '$venv'"
}

make_user() {
  getent group "$group" >/dev/null || run groupadd --system "$group"
  getent passwd "$user" >/dev/null ||
    run useradd --system --gid "$group" --home-dir "/var/lib/$name" --no-create-home \
      --shell /usr/sbin/nologin --comment "service $name" "$user"
  # Only a folder that is not there yet: whose files are in another one is not ours to say.
  [ -d "$store" ] || [ "$store" = "/var/lib/$name" ] ||
    run install -d -m 750 -o "$user" -g "$group" "$store"
}

install_service() {
  local found='' facts service socket='' user group store new_service='' new_socket=''
  facts=$(unit facts) || exit 2
  eval "$facts"
  make_venv
  check_readable
  service=$(unit service && printf x)
  [ $kind = plain ] || socket=$(unit socket && printf x)
  make_user
  ! write "$units/$name.service" "${service%x}" || new_service=1
  if [ $kind = plain ]; then
    remove_unit "$name.socket"
  else
    ! write "$units/$name.socket" "${socket%x}" || new_socket=1
  fi
  run systemctl daemon-reload
  if [ $kind = socket ]; then
    if [ -n "$new_socket" ] || ! systemctl is-active --quiet "$name.socket"; then
      # It cannot be opened while the daemon, or its forerunner, has the address.
      run systemctl stop "$name.service" "$name.socket"
    fi
    run systemctl enable --quiet --now "$name.socket"
  fi
  run systemctl enable --quiet "$name.service"
  if [ -z "$new_service$new_socket" ] && systemctl is-active --quiet "$name.service"; then
    run systemctl reload "$name.service" || give_up
  else
    run systemctl restart "$name.service" || give_up
  fi
  [ -n "$dry" ] || systemctl --no-pager --lines=0 status "$name.service"
}

give_up() {
  systemctl --no-pager --lines=20 status "$name.service" >&2 || true
  fail "the service does not start; above is why"
}

# Stop and remove a unit, if there is one; `found` tells then.
remove_unit() {
  [ -e "$units/$1" ] || return 0
  run systemctl disable --quiet --now "$1"
  run rm -rf "$units/$1" "$units/$1.d"
  found=1
}

uninstall_service() {
  local found=''
  remove_unit "$name.socket"
  remove_unit "$name.service"
  if [ -n "$found" ]; then
    run systemctl daemon-reload
    run systemctl reset-failed "$name.service" 2>/dev/null || true
  fi
  run rm -rf "/var/log/$name" "/run/$name"
  if [ -n "$purge" ]; then
    run rm -rf "/var/lib/$name"
    run rm -f "/etc/default/$name"
    # A user that was there before us is somebody's own.
    if [ "$(getent passwd "$name" | cut -d: -f5)" = "service $name" ]; then
      run userdel "$name"
      ! getent group "$name" >/dev/null || run groupdel "$name"
    fi
  elif [ -d "/var/lib/$name" ]; then
    printf 'stored files stay in /var/lib/%s; --uninstall --purge removes them\n' "$name"
  fi
  [ -n "$found" ] || printf 'there is no service %s\n' "$name"
}

read_arguments "$@"
check_machine
if [ $action = uninstall ]; then
  uninstall_service
else
  find_python
  install_service
fi
