#!/usr/bin/env bash
# Builds the image for amd64 (twice: both builds must give the same binary) and for arm64, prints and checks its size,
# and builds what the test needs beside it: a newer image, and one of echolocal.
#   GO_IMAGE   what to build with. By default, the image that builder.sh makes.
. "$(dirname "$0")/lib.sh"
GO_IMAGE=${GO_IMAGE:-$BUILDER:latest}
limit=20000000 # bytes
scratch

# build TAG ARGUMENTS... shows what docker says only if it fails.
build() {
    local tag=$1
    shift
    say "build: $tag (${SECONDS}s)"
    if ! docker build --force-rm --build-arg "GO_IMAGE=$GO_IMAGE" --tag "$tag" "$@" . >"$scratch/log" 2>&1; then
        tail -n 40 "$scratch/log" >&2
        fail "docker build of $tag"
    fi
    # A name for the first stage too, so that it can be removed; it is the last image before the second one begins.
    docker tag "$(sed '/ : FROM scratch$/q' "$scratch/log" | sed -n 's/^ ---> \([0-9a-f]*\)$/\1/p' | tail -n 1)" "$tag-stage"
}

checked_size() {
    local size
    size=$(docker image inspect --format '{{.Size}}' "$1")
    echo "image size, $2: $((size / 1000)) kB"
    [ "$size" -lt $limit ] || fail "$1 has $size bytes, expected less than $limit"
}

build "$IMAGE:1" --build-arg VERSION=1.0.0 --build-arg TARGETARCH=amd64
build "$IMAGE:again" --no-cache --build-arg VERSION=1.0.0 --build-arg TARGETARCH=amd64
build "$IMAGE:2" --build-arg VERSION=2.0.0 --build-arg TARGETARCH=amd64
build "$IMAGE:arm64" --build-arg VERSION=1.0.0 --build-arg TARGETARCH=arm64
build "$IMAGE:echolocal" --file deploy/image/echolocal.Dockerfile
for tag in 1 again arm64; do
    binary_of "$IMAGE:$tag" "$scratch/$tag"
done

checked_size "$IMAGE:1" amd64
checked_size "$IMAGE:arm64" arm64
sha256sum "$scratch/1" | sed "s|  .*|  the binary for amd64|"
cmp "$scratch/1" "$scratch/again" || fail "two builds of the same source gave two binaries"
# ELF: e_type (2: executable) at 16, e_machine (62: x86-64, 183: AArch64) at 18, as little-endian words.
for expected in "1 2 62" "arm64 2 183"; do
    set -- $expected
    read -r type machine < <(od -An -tu2 -j16 -N4 --endian=little "$scratch/$1")
    [ "$(head -c4 "$scratch/$1" | od -An -c | tr -d ' ')" = '177ELF' ] || fail "the binary of $IMAGE:$1 is no ELF file"
    [ "$type $machine" = "$2 $3" ] || fail "the binary of $IMAGE:$1 has the ELF type and machine $type $machine, expected $2 $3"
done
docker rmi "$IMAGE:again" "$IMAGE:again-stage" >/dev/null
say "build: done (${SECONDS}s)"
