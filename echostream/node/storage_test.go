package node

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ftpnode/ftpnode/echostream"
)

const hex64 = "8a2f0c8e6f2b8d1f4f6e0c5b7a9d3e1c2b4a6d8f0e1c3b5a7d9f2e4c6b8a0d1e"

// container is how a container's mountinfo begins (Docker 27, overlay2, on Debian; shortened).
const container = `1043 780 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/AB:/var/lib/docker/overlay2/l/CD,upperdir=/var/lib/docker/overlay2/x/diff,workdir=/var/lib/docker/overlay2/x/work
1044 1043 0:56 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1045 1043 0:57 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755,inode64
1049 1043 254:1 /var/lib/docker/containers/4c1b/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw,discard,errors=remount-ro
`

func TestWhereTheDataLives(t *testing.T) {
	cases := map[string]struct {
		mountinfo string
		dir       string
		outlives  bool
		why       string
	}{
		"own layer":    {container, "/data", false, "nothing is mounted at /data: it is on the container's own layer (overlay)"},
		"named volume": {container + "1050 1043 254:1 /var/lib/docker/volumes/plant-7-ftp-data/_data /data rw,relatime master:1 - ext4 /dev/vda1 rw,discard\n", "/data", true, "a volume is mounted at /data (/var/lib/docker/volumes/plant-7-ftp-data/_data)"},
		"no name":      {container + "1050 1043 254:1 /var/lib/docker/volumes/" + hex64 + "/_data /data rw,relatime master:1 - ext4 /dev/vda1 rw,discard\n", "/data", false, "the volume at /data has no name, and goes with the container"},
		"no name, engine's directory on a disk of its own": {container + "1050 1043 254:17 /volumes/" + hex64 + "/_data /data rw,relatime - xfs /dev/vdb1 rw\n", "/data", false, "the volume at /data has no name, and goes with the container"},
		"no name, podman":                    {container + "1050 1043 254:1 /var/lib/containers/storage/volumes/" + hex64 + "/_data /data rw,nosuid,nodev,relatime - ext4 /dev/vda1 rw\n", "/data", false, "the volume at /data has no name, and goes with the container"},
		"a name of 63 digits":                {container + "1050 1043 254:1 /var/lib/docker/volumes/" + hex64[1:] + "/_data /data rw - ext4 /dev/vda1 rw\n", "/data", true, "a volume is mounted at /data (/var/lib/docker/volumes/" + hex64[1:] + "/_data)"},
		"bind mount":                         {container + "1050 1043 254:1 /srv/ftp /data rw,relatime - ext4 /dev/vda1 rw\n", "/data", true, "a volume is mounted at /data (/srv/ftp)"},
		"a whole disk":                       {container + "1050 1043 254:33 / /data rw,relatime - ext4 /dev/vdc1 rw\n", "/data", true, "a volume is mounted at /data (/)"},
		"network storage":                    {container + "1050 1043 0:61 / /data rw,relatime - nfs4 10.0.0.1:/export/data rw,vers=4.2,hard\n", "/data", true, "a volume is mounted at /data (/)"},
		"tmpfs":                              {container + "1050 1043 0:60 / /data rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=65536k\n", "/data", false, "tmpfs at /data goes with the container"},
		"not a part of a name":               {container + "1050 1043 254:1 /srv/ftp /data2 rw,relatime - ext4 /dev/vda1 rw\n", "/data", false, "nothing is mounted at /data: it is on the container's own layer (overlay)"},
		"mounted above":                      {container + "1050 1043 254:1 /srv /mnt rw,relatime - ext4 /dev/vda1 rw\n", "/mnt/ftp/data", true, "a volume is mounted at /mnt (/srv)"},
		"mounted twice, the last one counts": {container + "1050 1043 254:1 /srv/ftp /data rw,relatime - ext4 /dev/vda1 rw\n1051 1050 0:60 / /data rw,relatime - tmpfs tmpfs rw\n", "/data", false, "tmpfs at /data goes with the container"},
		"blanks in a name":                   {container + `1050 1043 254:1 /srv/plant\0407 /my\040data rw,relatime - ext4 /dev/vda1 rw` + "\n", "/my data", true, "a volume is mounted at /my data (/srv/plant 7)"},
		"storage driver btrfs":               {"500 400 0:45 /@/var/lib/docker/btrfs/subvolumes/ab / rw,relatime - btrfs /dev/vda1 rw,subvolid=300\n", "/data", false, "nothing is mounted at /data: it is on the container's own layer (btrfs)"},
		"nothing":                            {"", "/data", false, "nothing is known to be mounted at /data"},
		"not a mountinfo":                    {"none / - x\n", "/data", false, "nothing is known to be mounted at /data"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			outlives, why := mountOf([]byte(c.mountinfo), c.dir)
			assert.Equal(t, c.outlives, outlives)
			assert.Equal(t, c.why, why)
		})
	}
}

func TestVariableSaysThatTheVolumeOutlives(t *testing.T) {
	s := findStorage(func(name string) string { return map[string]string{"TESTNODE_DATA": "/srv"}[name] }, "TESTNODE_DATA", "/srv")
	assert.Equal(t, storage{outlives: true, why: "TESTNODE_DATA is set"}, s)
}

func TestDefinitionAndMountsDisagree(t *testing.T) {
	kept, goes := storage{inContainer: true, outlives: true, why: "named"}, storage{inContainer: true, why: "anonymous"}
	outside := storage{outlives: true, why: "TESTNODE_DATA is set"}
	named, unnamed := echostream.Mount{Source: "plant-7", Target: "/data/"}, echostream.Mount{Target: "/data"}
	for _, c := range []struct {
		storage storage
		managed bool
		mounts  []echostream.Mount
		warning string // "": none
	}{
		{kept, true, []echostream.Mount{named}, ""},
		{goes, true, []echostream.Mount{named}, "and it is not mounted"},
		{kept, true, nil, "yet a volume is mounted"},
		{kept, true, []echostream.Mount{{Source: "other", Target: "/other"}}, "yet a volume is mounted"},
		{goes, true, nil, "the node has no mount for its data"},
		{goes, true, []echostream.Mount{unnamed}, "the data volume has no name"},
		{goes, false, nil, ""}, // an external node: nothing is planned
		{outside, true, nil, ""},
	} {
		var out bytes.Buffer
		c.storage.check(&echostream.Definition{Managed: c.managed, Mounts: c.mounts}, "/data", slog.New(slog.NewTextHandler(&out, nil)))
		if c.warning == "" {
			assert.Empty(t, out.String(), "%+v", c)
			continue
		}
		assert.Contains(t, out.String(), "level=WARN", "%+v", c)
		assert.Contains(t, out.String(), c.warning, "%+v", c)
	}
}
