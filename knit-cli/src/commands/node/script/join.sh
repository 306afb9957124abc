#!/bin/sh
# Makes this host a node of a Knit cluster. Written by `knit node script`; it holds no secret.
#
#   sh join.sh [--binaries DIR | --debs DIR] [--name NAME] [--seed HOST[:PORT]]... [--no-install]
#   sh join.sh --check
#
# Standard input: the mesh secret on the first line (empty on a host that is in the mesh already),
# the join token on the second (empty on a host that is a node already). At a terminal it asks.
# Running it again does no harm.
set -eu
umask 077

MADE_AT=@MADE_AT@
ETC=/etc/knit
SECRET=$ETC/mesh.secret
STATE=/var/lib/knit-agent
DOCKER_MINIMUM=20.10
WAIT_SECONDS=60

step() { printf '==> %s\n' "$*" >&2; }
say() { printf '    %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# --- What is wanted ------------------------------------------------------------------------------

programs=
debs=
stream=
name=
seeds=
install=1
check_only=
checked=

arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --binaries | --debs | --name | --seed) [ $# -ge 2 ] || fail "$1 wants a value" ;;
        esac
        case $1 in
        --binaries) programs=$2 && shift ;;
        --debs) debs=$2 && shift ;;
        # The programs or packages follow on standard input, behind the two lines.
        --stream) stream=1 ;;
        --name) name=$2 && shift ;;
        --seed) seeds="$seeds${seeds:+, }\"$2\"" && shift ;;
        --no-install) install= ;;
        --check) check_only=1 ;;
        --checked) checked=1 ;;
        *) fail "unknown argument $1: the head of this script says what there is" ;;
        esac
        shift
    done
    # They are written into files.
    case $name$seeds in *[!A-Za-z0-9._:,\ \"-]* | *'
'*) fail "a name or a seed has characters that none has" ;; esac
}

# Reads a line that nobody else gets to see.
secret_line() {
    if [ -t 0 ]; then
        printf '%s' "$1" >&2
        stty -echo
        trap 'stty echo' EXIT
        trap 'stty echo; exit 130' INT TERM
    fi
    IFS= read -r line || true
    if [ -t 0 ]; then
        stty echo
        trap - EXIT INT TERM
        echo >&2
    fi
    printf '%s' "$line"
}

# --- What this host is ---------------------------------------------------------------------------

check_system() {
    step "checking this host"
    [ "$(id -u)" -eq 0 ] || fail "root is needed: run this with sudo"
    [ "$(uname -s)" = Linux ] || fail "Knit runs on Linux, and this is $(uname -s)"
    case $(uname -m) in
    x86_64 | aarch64) ;;
    *) fail "Knit is built for x86_64 and aarch64, and this is $(uname -m)" ;;
    esac
    [ -d /run/systemd/system ] || fail "systemd does not run here, and the daemons are its units"
    has systemctl || fail "systemctl is missing"
    now=$(date +%s)
    [ "$now" -ge "$MADE_AT" ] ||
        fail "the clock of this host is $((MADE_AT - now)) s behind that of who made this script: set it (systemctl start systemd-timesyncd)"
    os=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null || true)
    say "${os:-an unknown Linux}, $(uname -m), kernel $(uname -r)"
    check_tunnel
    check_ports
}

# Either the kernel has WireGuard, or packets pass a TUN device.
check_tunnel() {
    has modprobe && { modprobe -q wireguard || modprobe -q tun || true; }
    if [ -d /sys/module/wireguard ]; then
        say "the kernel has WireGuard"
    elif [ -c /dev/net/tun ]; then
        say "the kernel has no WireGuard, but TUN: packets pass the sidecar itself"
    else
        fail "this kernel has neither WireGuard nor /dev/net/tun: load the module wireguard or tun; in a container, give it /dev/net/tun"
    fi
}

check_ports() {
    ! mesh_answers || return 0
    # A sidecar that was here before has left its interface, which it takes up again.
    [ ! -s "$SECRET" ] || return 0
    has ss || return 0
    port=$(sed -n 's/^listen_port *= *\([0-9][0-9]*\).*/\1/p' "$ETC/mesh.toml" 2>/dev/null | head -n 1)
    port=${port:-51820}
    holder=$(ss -Hlunp "sport = :$port" 2>/dev/null | sed -n 's/.*users:((\("[^"]*"\).*/\1/p' | head -n 1)
    [ -z "$(ss -Hlun "sport = :$port" 2>/dev/null)" ] ||
        fail "UDP port $port is WireGuard's, and ${holder:-the kernel} has it: free it, or write listen_port = PORT into $ETC/mesh.toml"
}

# --- What it needs -------------------------------------------------------------------------------

docker_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }

need_packages() {
    missing=
    # Newer Debians have the daemon and the program in packages of their own.
    if has docker; then :; elif has dockerd; then missing=" docker-cli"; else missing=" docker.io"; fi
    has nft || missing="$missing nftables"
    has iptables || missing="$missing iptables"
    [ -n "$missing" ] || return 0
    [ -n "$install" ] || fail "missing:$missing; install them, or leave --no-install out"
    has apt-get || fail "missing:$missing; this system has no apt-get: install them by its own means"
    step "installing$missing"
    # shellcheck disable=SC2086 # each is a package
    apt_get install $missing
    has docker || apt_get install docker-cli
}

apt_get() {
    log=$(mktemp)
    if ! DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends "$@" >"$log" 2>&1 </dev/null; then
        # A fresh host knows no packages yet.
        if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends "$@"; } >>"$log" 2>&1 </dev/null; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            fail "apt-get $* did not work; what it said stands above"
        fi
    fi
    rm -f "$log"
}

check_docker() {
    step "asking Docker"
    version=$(docker_version) || {
        systemctl start docker >/dev/null 2>&1 || true
        version=$(docker_version) ||
            fail "Docker does not answer: $(docker version 2>&1 | tail -n 1)"
    }
    lowest=$(printf '%s\n%s\n' "$DOCKER_MINIMUM" "$version" | sort -V | head -n 1)
    [ "$lowest" = "$DOCKER_MINIMUM" ] ||
        fail "Docker $version is too old: $DOCKER_MINIMUM or newer is needed"
    say "Docker $version"
}

# --- Programs and units --------------------------------------------------------------------------

put_programs() {
    if [ -n "$stream" ]; then
        step "taking programs from the connection"
        unpacked=$(mktemp -d)
        tar -x -C "$unpacked" || fail "what was sent is no archive, or the connection broke"
        if [ -n "$(find "$unpacked" -name '*.deb')" ]; then debs=$unpacked; else programs=$unpacked; fi
    fi
    if [ -n "$debs" ]; then
        put_debs
    elif [ -n "$programs" ]; then
        put_binaries
    else
        { has meshctl && has knit-agent; } ||
            fail "meshctl and knit-agent are not installed: name a directory with them (--binaries DIR) or with their packages (--debs DIR)"
        say "the programs are here: $(knit-agent --version)"
    fi
    [ -z "${unpacked:-}" ] || rm -rf "$unpacked"
}

newest_deb() { find "$debs" -maxdepth 1 -name "$1_*_$(dpkg --print-architecture).deb" | sort -V | tail -n 1; }

put_debs() {
    step "installing packages"
    has dpkg || fail "this system has no dpkg: name a directory with the programs (--binaries DIR)"
    set -- "$(newest_deb knit-agent)" "$(newest_deb meshctl)"
    { [ -n "$1" ] && [ -n "$2" ]; } ||
        fail "$debs has no knit-agent_*.deb and meshctl_*.deb for $(dpkg --print-architecture)"
    # apt wants a path that its own user may read.
    shown=$(mktemp -d)
    chmod 755 "$shown"
    cp "$1" "$2" "$shown/"
    [ -n "$install" ] || refuse_dependencies
    # A file that is configured already stays as it is; nobody is there to be asked.
    apt_get -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$shown"/*.deb
    rm -rf "$shown"
    # What an earlier join put beside them would go before them.
    for program in meshctl knit-agent; do rm -f "/usr/local/bin/$program"; done
    for unit in wg-mesh knit-agent; do
        ! grep -qs /usr/local/bin/ "/etc/systemd/system/$unit.service" ||
            rm -f "/etc/systemd/system/$unit.service"
    done
    systemctl daemon-reload
    say "$(knit-agent --version)"
}

# They may be packages that this host does without: its Docker may have come otherwise.
refuse_dependencies() {
    more=$(apt-get -s -q --no-install-recommends install "$shown"/*.deb 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\) .*/\1/p' | grep -vxE 'knit-agent|meshctl' | tr '\n' ' ' || true)
    [ -z "$more" ] || rm -rf "$shown"
    [ -z "$more" ] || fail "the packages need others: ${more% }; install them, or leave --no-install out"
}

put_binaries() {
    step "installing programs"
    for program in meshctl knit-agent; do
        [ -f "$programs/$program" ] || fail "$programs has no $program"
        # Beside its place and then moved: a program that runs cannot be written over.
        install -m 755 "$programs/$program" "/usr/local/bin/.$program.new"
        mv -f "/usr/local/bin/.$program.new" "/usr/local/bin/$program"
    done
    say "$(/usr/local/bin/knit-agent --version) in /usr/local/bin"
    put_unit wg-mesh.service <<'UNIT'
@WG_MESH_SERVICE@
UNIT
    put_unit knit-agent.service <<'UNIT'
@KNIT_AGENT_SERVICE@
UNIT
    put_users
    systemctl daemon-reload
}

put_unit() { sed 's,/usr/bin/,/usr/local/bin/,' >"/etc/systemd/system/$1" && chmod 644 "/etc/systemd/system/$1"; }

put_users() {
    getent group wg-mesh >/dev/null || groupadd --system wg-mesh
    getent passwd wg-mesh >/dev/null ||
        useradd --system --gid wg-mesh --home-dir /var/lib/wgmesh --no-create-home \
            --shell /usr/sbin/nologin wg-mesh
}

# --- The mesh ------------------------------------------------------------------------------------

mesh_answers() { has meshctl && meshctl status -o name >/dev/null 2>&1; }

# Puts a file in its place whole, or not at all.
put_file() {
    temporary=$(mktemp "$1.XXXXXX")
    cat >"$temporary"
    chmod "$2" "$temporary"
    mv -f "$temporary" "$1"
}

# put_key FILE KEY VALUE: the key's line anew, before any table; the rest of the file stays.
put_key() {
    { printf '%s = %s\n' "$2" "$3" && { grep -v "^$2 *=" "$1" || true; }; } | put_file "$1" 644
}

configure() {
    mkdir -p "$ETC"
    chmod 755 "$ETC"
    [ -e "$ETC/mesh.toml" ] ||
        echo '# The mesh sidecar: each flag of meshctl join is a key, dashes as underscores.' | put_file "$ETC/mesh.toml" 644
    [ -e "$ETC/agent.toml" ] ||
        echo '# The agent: each flag of knit-agent run is a key, dashes as underscores.' | put_file "$ETC/agent.toml" 644
    [ -z "$seeds" ] || put_key "$ETC/mesh.toml" seed "[$seeds]"
    [ -z "$name" ] || put_key "$ETC/agent.toml" name "\"$name\""
}

join_mesh() {
    if mesh_answers && ! systemctl -q is-active wg-mesh; then
        step "using the mesh that this host is in"
        return 0
    fi
    step "joining the mesh"
    if [ -s "$SECRET" ]; then
        [ -z "$mesh_secret" ] || [ "$(cat "$SECRET")" = "$mesh_secret" ] ||
            fail "this host has another mesh secret in $SECRET: it is in another mesh, and is left as it is"
    else
        [ -n "$mesh_secret" ] || fail "this host is in no mesh, and no mesh secret was given"
        printf '%s\n' "$mesh_secret" | put_file "$SECRET" 600
    fi
    start wg-mesh
    await "the mesh sidecar to have an address" mesh_answers wg-mesh
    say "$(meshctl status 2>/dev/null | sed -n 's/^mesh address */mesh address /p')"
}

# --- The agent -----------------------------------------------------------------------------------

node_id() { sed -n 's/.*"node_id": *"\([0-9a-f]*\)".*/\1/p' "$STATE/identity.json" 2>/dev/null; }

agent_registered() {
    case $(systemctl show -p StatusText --value knit-agent) in
    registered*) return 0 ;;
    *) return 1 ;;
    esac
}

join_cluster() {
    if [ -n "$join_token" ]; then
        step "taking the join token"
        taken=$(printf '%s\n' "$join_token" | knit-agent join 2>&1) || fail "$taken"
    elif [ ! -e "$STATE/identity.json" ]; then
        fail "this host is no node yet, and no join token was given: \`knit node token\` makes one"
    fi
    step "starting the agent"
    start knit-agent
    await "the agent to register with the server" agent_registered knit-agent
    say "$(systemctl show -p StatusText --value knit-agent)"
}

start() {
    systemctl -q enable "$1" 2>/dev/null || true
    systemctl restart "$1" || {
        journal "$1"
        fail "$1 does not start; its log stands above"
    }
}

journal() { journalctl -q --no-pager -o cat -n 12 -u "$1" 2>/dev/null | sed 's/^/    /' >&2 || true; }

# await WHAT COMMAND UNIT
await() {
    left=$((WAIT_SECONDS * 5))
    until "$2"; do
        left=$((left - 1))
        if [ $left -le 0 ]; then
            journal "$3"
            fail "waited $WAIT_SECONDS s for $1; $3 says: $(systemctl show -p StatusText --value "$3"); its log stands above"
        fi
        sleep 0.2
    done
}

# --- All of it -----------------------------------------------------------------------------------

main() {
    arguments "$@"
    [ -n "$checked" ] || check_system
    if [ -n "$check_only" ]; then
        printf 'clock=%s\n' "$(date +%s)"
        printf 'arch=%s\n' "$(uname -m)"
        printf 'mesh=%s\n' "$(if mesh_answers || [ -s "$SECRET" ]; then echo yes; fi)"
        printf 'node=%s\n' "$(if [ -e "$STATE/registration.json" ]; then node_id; fi)"
        return 0
    fi
    # Two at once would tread on each other.
    exec 9>/run/knit-node-join.lock
    flock -n 9 || fail "another join is under way on this host: wait until it has ended"
    mesh_secret=$(secret_line 'mesh secret (it is not shown; empty when this host is in the mesh): ')
    join_token=$(secret_line 'join token (it is not shown; empty when this host is a node): ')
    # Packages would bring what they depend on.
    [ -n "$install" ] || need_packages
    put_programs
    need_packages
    check_docker
    configure
    join_mesh
    join_cluster
    step "this host is a node"
    printf 'node=%s\n' "$(node_id)"
}

main "$@"
