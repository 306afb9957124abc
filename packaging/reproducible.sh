# shellcheck shell=bash
# What makes the same source give the same bytes: no path, no clock, no setting of this machine.

# Takes away what a user's own settings would change.
same_everywhere() {
    local name
    for name in "${!CARGO_PROFILE_@}" RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS CC CXX \
        CXXFLAGS CPPFLAGS LDFLAGS KNIT_COMMIT KNIT_DATE COMMIT; do
        unset "$name"
    done
    export LC_ALL=C TZ=UTC CARGO_INCREMENTAL=0
    umask 022
}

# Puts what is committed into DIR, and says in KNIT_BUILT and SOURCE_DATE_EPOCH what that is. An
# unpacked archive of `git archive` is taken as it is.
export_source() {
    local dir=$1
    rm -rf "$dir"
    mkdir -p "$dir"
    if git -C "$REPO" rev-parse --verify -q HEAD >/dev/null 2>&1; then
        [ -z "$(git -C "$REPO" status --porcelain)" ] ||
            step "what is not committed is not in it"
        # The second time is of the same commit, whatever was committed since.
        : "${COMMIT:=$(git -C "$REPO" rev-parse HEAD)}"
        # As many digits everywhere, however many commits a clone has.
        git -C "$REPO" -c core.abbrev=10 archive "$COMMIT" | tar -C "$dir" -x
        SOURCE_DATE_EPOCH=$(git -C "$REPO" log -1 --format=%ct "$COMMIT")
    else
        tar -C "$REPO" --exclude=./target --exclude=./dist --exclude=./packaging/generated \
            --exclude=node_modules -c . | tar -C "$dir" -x
        SOURCE_DATE_EPOCH=$(stat -c %Y "$REPO/Cargo.lock")
    fi
    export SOURCE_DATE_EPOCH
    KNIT_BUILT=$(cat "$dir/runtime/source.txt")
    case $KNIT_BUILT in
    \$*) die "this is neither a clone nor an archive that git made: nobody can tell what is built" ;;
    esac
}

# Sets what cargo and the C compiler are told, for a build of $WORK/source into $WORK/build.
reproducibly() {
    case $WORK$HOME in
    *[[:space:]]*) die "a path with a space in it cannot be kept out of what C is compiled to: $WORK" ;;
    esac
    local dir flags=() maps=("$WORK/source=/knit" "$WORK/build=/target")
    cargo fetch --quiet --locked
    for dir in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        maps+=("${dir%/}=/cargo")
    done
    flags=("${maps[@]/#/--remap-path-prefix=}")
    # Between flags is what no path has.
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}")
    CFLAGS="${maps[*]/#/-ffile-prefix-map=}"
    export CARGO_TARGET_DIR=$WORK/build CARGO_ENCODED_RUSTFLAGS CFLAGS
}
