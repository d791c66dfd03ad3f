#!/bin/sh
# Installs the Debian packages that a task needs, and only those that are missing.
#
#   deploy/ensure-packages.sh python|demo|test|slow|bench|clean-machine|deb
#
# What counts is the command, not the package: a tool built by hand is as good, and so is another distribution that
# has it. Where something is missing and we may not install it (not root, no apt), the last line is the command to
# run, and the exit code is 1. With nothing missing this takes milliseconds and touches neither apt nor the network.
set -eu

here=$(dirname "$0")
# Debian's su keeps the user's PATH, which lacks the directories of ip, nft and modprobe.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=""

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

# library SONAME PACKAGE
library() {
    ldconfig -p 2>/dev/null | grep -q "$1" || missing="$missing $2"
}

need_python() {
    if ! python=$("$here/find-python.sh" 2>/dev/null); then
        # A wrong PYTHON is the user's to correct: installing another one would not help.
        if [ -n "${PYTHON:-}" ]; then exec "$here/find-python.sh"; fi
        missing="$missing python3 python3-venv"
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian cuts these two out of its python3.
        missing="$missing python3-venv"
    fi
}

kernel_has_wireguard() {
    [ -d /sys/module/wireguard ] || modprobe --quiet wireguard 2>/dev/null
}

need_demo() {
    need ip iproute2
    need wg wireguard-tools
    need ping iputils-ping
    kernel_has_wireguard || need wireguard-go wireguard-go
}

need_test() {
    need_demo
    need wireguard-go wireguard-go
    need nft nftables
    need iptables-legacy iptables
    need setpriv util-linux
    need mount mount
    need sysctl procps
    need prometheus prometheus
    need promtool prometheus
    need prometheus-alertmanager prometheus-alertmanager
    need amtool prometheus-alertmanager
    need qemu-system-x86_64 qemu-system-x86
    need modprobe kmod
    need tcpdump tcpdump
    need systemd-analyze systemd
    need systemd-socket-activate systemd
    need file file
    need mke2fs e2fsprogs
    need git git
    need man man-db
    need mandoc mandoc
    need keepalived keepalived
    need chromium chromium
    # The driver of the browser brings a node of its own, which wants it.
    library libatomic.so.1 libatomic1
}

need_bench() {
    need_test
    need fping fping
    need tracepath iputils-tracepath
}

need_slow() {
    need_test
    need_clean_machine
    need buildah buildah
}

need_clean_machine() {
    need mmdebstrap mmdebstrap
    need unshare util-linux
    need mount mount
    need git git
}

need_deb() {
    [ -x /usr/bin/python3 ] || missing="$missing python3" # the one that the package will run with
    need dh debhelper
    need dpkg-buildpackage dpkg-dev
    need strip binutils
    need lintian lintian
    need man man-db # lintian lets it read the man pages
}

# Debian starts a service as soon as its package is installed, and at every boot from then on. We want the program
# prometheus for a test on a port of its own, not a server on this machine's port 9090. A policy-rc.d that says 101
# is Debian's way to refuse the start. One that is there already is the owner's, and stays.
install_without_starting() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM HUP
        printf '#!/bin/sh\n# Written by wg-exporter: no service starts while its packages are installed.\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    # No recommended packages: those of wireguard-tools and qemu bring a kernel and a desktop.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 --no-install-recommends "$@" || return 1
    command -v systemctl >/dev/null || return 0
    case " $* " in *" prometheus "*) systemctl disable -q prometheus.service || true ;; esac
    case " $* " in *" keepalived "*) systemctl disable -q keepalived.service || true ;; esac
    case " $* " in *" prometheus-alertmanager "*) systemctl disable -q prometheus-alertmanager.service || true ;; esac
}

# A list of packages that is weeks old names files that the mirror no longer has; a fresh machine has no list at all.
install() {
    if apt-get install -s -qq "$@" >/dev/null 2>&1 && install_without_starting "$@"; then
        return 0
    fi
    echo "updating the list of packages ..."
    apt-get update -qq && install_without_starting "$@"
}

case "${1:-}" in
python) need_python ;;
demo) need_demo ;;
test) need_test ;;
slow) need_slow ;;
bench) need_bench ;;
clean-machine) need_clean_machine ;;
deb) need_deb ;;
*)
    echo "usage: $0 python|demo|test|slow|bench|clean-machine|deb" >&2
    exit 2
    ;;
esac

[ -n "$missing" ] || exit 0
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
missing=${missing% }

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, by the names of their Debian packages: $missing" >&2
    echo "there is no apt-get here: install them with this system's own package manager" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages: $missing" >&2
    echo "as root run: apt-get update && apt-get install --no-install-recommends $missing" >&2
    exit 1
fi
echo "installing missing Debian packages: $missing" >&2
# shellcheck disable=SC2086 # a list of words on purpose
if ! install $missing >&2; then
    echo "apt-get could not install: $missing; is the Debian mirror reachable?" >&2
    echo "try by hand: apt-get update && apt-get install --no-install-recommends $missing" >&2
    exit 1
fi
