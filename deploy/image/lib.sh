# What the scripts of this directory share; they source it. It goes to the root of the source tree.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The names of the images. Give FTPNODE_IMAGE a name of its own to keep two runs on one engine apart.
IMAGE=${FTPNODE_IMAGE:-ftpnode-test}
BUILDER=${FTPNODE_BUILDER:-ftpnode-builder}

# The engine's own builder: it takes images that no registry has, and needs no plugin of the client.
export DOCKER_BUILDKIT=0

say() { printf '%s\n' "$*" >&2; }
fail() { say "FAILED: $*"; exit 1; }

# scratch makes a directory that is gone when the script ends, and sets $scratch.
scratch() {
    scratch=$(mktemp -d)
    trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
}

# binary_of IMAGE FILE takes the program out of an image without running it.
binary_of() {
    local container
    container=$(docker create "$1" none)
    docker cp "$container:$(docker inspect --format '{{index .Config.Entrypoint 0}}' "$1")" "$2"
    docker rm -v "$container" >/dev/null
}
