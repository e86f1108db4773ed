package node

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/ftpnode/ftpnode/echostream"
)

// storage is where the data directory lives, found out once at the start.
type storage struct {
	inContainer bool   // NAME_DATA is not set: the node is in a container that it does not know
	outlives    bool   // the container
	why         string // that is so
}

// findStorage finds out where dir lives; variable is the one that can set it.
func findStorage(getenv func(string) string, variable, dir string) storage {
	if getenv(variable) != "" {
		return storage{outlives: true, why: variable + " is set"}
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil { // the careful side
		return storage{inContainer: true, why: fmt.Sprintf("what is mounted at %s cannot be read: %v", dir, err)}
	}
	outlives, why := mountOf(text, dir)
	return storage{inContainer: true, outlives: outlives, why: why}
}

// check warns where the definition and what is mounted disagree, and of data that goes with the container: the Managed App removes a container together
// with its volumes that have no name when the node, its config or its image changes.
func (s storage) check(definition *echostream.Definition, dir string, log *slog.Logger) {
	var mount *echostream.Mount
	for i, m := range definition.Mounts {
		if path.Clean(m.Target) == path.Clean(dir) {
			mount = &definition.Mounts[i]
		}
	}
	managed := definition.Managed && s.inContainer
	switch {
	case mount != nil && mount.Source == "":
		log.Warn("the data volume has no name: what waits on it is lost when EchoStream replaces the container. Give the node's mount a source",
			"target", mount.Target)
	case mount != nil && managed && !s.outlives:
		log.Warn("the node's definition names a volume for its data, and it is not mounted: what waits is lost when the container is replaced",
			"target", mount.Target, "source", mount.Source, "mounted", s.why)
	case mount == nil && managed && s.outlives:
		log.Warn("the node's definition has no mount for its data, and yet a volume is mounted: EchoStream makes the next container without it, and what waits is lost",
			"target", dir, "mounted", s.why)
	case mount == nil && managed:
		log.Warn("the node has no mount for its data: what waits is lost when EchoStream replaces the container", "target", dir, "mounted", s.why)
	}
}

// anonymousVolume is how the root of a volume that was given no name ends: engines name it by 64 hex digits.
var anonymousVolume = regexp.MustCompile(`/volumes/[0-9a-f]{64}/_data$`)

// mountOf reports whether what is mounted at dir outlives its container, and what it is. text is that of /proc/self/mountinfo (proc_pid_mountinfo(5)).
func mountOf(text []byte, dir string) (outlives bool, why string) {
	var root, point, kind string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		// 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw
		mount, file, ok := strings.Cut(lines.Text(), " - ")
		m, f := strings.Fields(mount), strings.Fields(file)
		if !ok || len(m) < 6 || len(f) < 1 {
			continue
		}
		at := unescape(m[4])
		if (at == "/" || dir == at || strings.HasPrefix(dir, at+"/")) && len(at) >= len(point) { // the last one lies on top
			root, point, kind = unescape(m[3]), at, f[0]
		}
	}
	switch {
	case point == "":
		return false, fmt.Sprintf("nothing is known to be mounted at %s", dir)
	case point == "/":
		return false, fmt.Sprintf("nothing is mounted at %s: it is on the container's own layer (%s)", dir, kind)
	case strings.Contains(kind, "overlay") || kind == "tmpfs" || kind == "ramfs":
		return false, fmt.Sprintf("%s at %s goes with the container", kind, point)
	case anonymousVolume.MatchString(root):
		return false, fmt.Sprintf("the volume at %s has no name, and goes with the container", point)
	}
	return true, fmt.Sprintf("a volume is mounted at %s (%s)", point, root)
}

// unescape undoes the octal escapes of blanks and backslashes in mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
