# shellcheck shell=bash
# What quickstart and test share: Debian's packages, the Rust toolchain, steps with their time.

# What Knit needs at run time.
RUN_PACKAGES=(
    ca-certificates curl docker.io iproute2 iptables iputils-ping nats-server nftables procps
    busybox-static wireguard-tools
)
# What building it needs beside the Rust toolchain: SQLite is C.
BUILD_PACKAGES=(gcc libc6-dev)
# Rust that the workspace needs, as Cargo.toml's rust-version says.
RUST_MINIMUM=1.95

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STARTED=$(date +%s%N)

# Says what happens now, with the seconds since the start.
step() {
    local millis=$((($(date +%s%N) - STARTED) / 1000000))
    printf '\n%4d.%ds  %s\n' $((millis / 1000)) $((millis % 1000 / 100)) "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "root is needed for namespaces, WireGuard and Docker: sudo $0"
}

# Those of the named Debian packages that are not installed, a line each.
missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$package"
    done
}

# Installs those of the named Debian packages that are missing.
install_missing() {
    local missing
    command -v dpkg-query >/dev/null || die "this script sets up Debian 12; elsewhere install: $*"
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    step "installing Debian packages: ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
        --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        die "apt-get could not install: ${missing[*]}"
    fi
    rm -f "$log"
}

# Has the named Debian packages; without root it says which are missing.
need_packages() {
    local missing
    if [ "$(id -u)" -eq 0 ]; then
        install_missing "$@"
        return
    fi
    command -v dpkg-query >/dev/null || return 0
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] || die "install these first: ${missing[*]}"
}

# Puts cargo on the PATH, also under sudo, whose PATH has none.
find_cargo() {
    local home dir candidates=()
    if [ -n "${SUDO_USER:-}" ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        candidates+=("$home/.cargo/bin")
        # rustup looks for its toolchains below HOME, which is root's under sudo.
        if [ -d "$home/.rustup" ] && [ -z "${RUSTUP_HOME:-}" ]; then
            export RUSTUP_HOME="$home/.rustup"
        fi
    fi
    candidates+=("${CARGO_HOME:-$HOME/.cargo}/bin" "$HOME/.cargo/bin" /usr/local/cargo/bin)
    for dir in "${candidates[@]}"; do
        if ! command -v cargo >/dev/null && [ -x "$dir/cargo" ]; then
            export PATH="$dir:$PATH"
        fi
    done
    command -v cargo >/dev/null ||
        die "no Rust toolchain found: install Rust $RUST_MINIMUM or newer (https://rustup.rs)"
    local version
    version=$(rustc --version | cut -d' ' -f2)
    printf '%s\n%s\n' "$RUST_MINIMUM" "$version" | sort -VC ||
        die "Rust $version is too old: $RUST_MINIMUM or newer is needed (rustup update stable)"
}

# The version of the workspace in this directory.
workspace_version() {
    sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml
}

# Where cargo puts the programs of the development profile.
programs_dir() {
    cargo metadata --manifest-path "$REPO/Cargo.toml" --format-version 1 --no-deps |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1\/debug/'
}

# What makes Debian packages.
# shellcheck disable=SC2034 # build-deb and test use it
CARGO_DEB=3.8.0

# Where programs of cargo are that only packaging needs.
if [ "$(id -u)" -eq 0 ]; then
    TOOLS=/var/cache/knit-test/tools
else
    TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/knit/tools
fi

# cargo_tool NAME VERSION: has it in $TOOLS/bin, which is first on the PATH from here on. It is
# compiled once, which takes minutes. Two that want it at once wait for each other.
cargo_tool() {
    local name=$1 version=$2 log
    mkdir -p "$TOOLS"
    export PATH="$TOOLS/bin:${PATH#"$TOOLS/bin:"}"
    (
        flock 9
        # cargo's own list of what is installed below a root.
        ! grep -qsF "\"$name $version " "$TOOLS/.crates.toml" || exit 0
        step "building $name $version, once"
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        # A directory of its own, or it would share the workspace's lints and profiles.
        (cd / && CARGO_TARGET_DIR=$TOOLS/target-$name \
            cargo install --locked --quiet --root "$TOOLS" --version "$version" "$name") \
            >"$log" 2>&1 || {
            cat "$log" >&2
            die "cargo could not install $name $version"
        }
        rm -rf "$TOOLS/target-$name"
    ) 9>"$TOOLS/.lock"
}
