#!/usr/bin/env bash
# Prints the image's software bill of materials as CycloneDX JSON: sbom.sh [IMAGE]
. "$(dirname "$0")/lib.sh"
scratch
binary_of "${1:-$IMAGE:1}" "$scratch/ftpnode"
go run ./deploy/image/sbom "$scratch/ftpnode"
