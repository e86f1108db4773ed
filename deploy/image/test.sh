#!/usr/bin/env bash
# Everything about the image in one command: an engine, the builder, the images, the end-to-end test. What it has made is
# removed at the end, but for the builder image, which makes the next run quick.
. "$(dirname "$0")/lib.sh"
if [ "${1:-}" != inside ]; then
    exec deploy/image/engine.sh "$PWD/deploy/image/test.sh" inside
fi
missing=()
for client in curl lftp ip iptables; do command -v "$client" >/dev/null || missing+=("$client"); done
[ ${#missing[@]} -eq 0 ] || fail "install these programs, which the test drives: ${missing[*]}"

FTPNODE_IMAGE=ftpnode-test-$$-$RANDOM # two runs on one engine do not meet
export FTPNODE_IMAGE
cleanup() {
    docker images --filter "reference=$FTPNODE_IMAGE" --format '{{.Repository}}:{{.Tag}}' | xargs -r docker rmi >/dev/null
}
trap cleanup EXIT
[ -n "${GO_IMAGE:-}" ] || deploy/image/builder.sh
deploy/image/build.sh
echo "software bill of materials: $(deploy/image/sbom.sh | grep -c '"bom-ref"') components"
deploy/image/vulncheck.sh
# What it does is mostly waiting.
go test -count=1 -timeout=20m -parallel=4 -v -tags image ./deploy/image
