// Package powercut cuts the power of real file systems, for tests: an ext4, xfs or btrfs in an image file is mounted,
// a program works on it, and at any moment [Volume.Cut] keeps the image as it is at that moment. [Volume.Restore]
// mounts that in place of the first one: the file system replays its journal, as after a power cut.
//
// What a cut keeps and loses. The image lies on a scratch xfs that the package makes, which can clone a file (FICLONE) in one
// step, between two of the writes that the file system sends to its block device. So a cut keeps each write that the
// file system had sent and the device had taken, flushed or not; and loses what was still in memory: data in the page cache,
// a transaction that was not committed, requests on their way. That is a disk whose own cache survives.
// It shows each sync that a program forgets. It does not show a file system that forgets to flush the disk. Nothing
// is frozen or flushed before a cut.
//
// File systems commit each second instead of each 5 (ext4) or 30 (btrfs), so that short lives have seen commits.
//
// It takes Linux, root, loop devices, and the tools mount, umount, mkfs.ext4, mkfs.xfs and mkfs.btrfs, so it hides behind a build
// tag; with the tag, what is missing is a failure:
//
//	go test -tags powercut ./echostream/disk/disktest ./cmd/killtest -run PowerCut
//
// Tests run in namespaces of their own ([Main]): when they end, however they do, their mounts, loop devices and processes
// end with them.
package powercut
