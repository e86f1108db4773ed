// Package disktest is a simulated disk for tests: a [disk.FS] in memory that records each mutating
// operation, fails on demand, and can be cut at any operation as a power cut would. What it then may
// hold, [FS.Crash] makes into a new FS, on which the program is started again.
//
// # What a power cut leaves
//
// The model promises what package disk says and nothing more; every real file system gives a subset of it.
//
// Data. File.Sync makes the bytes, the size and the times of a file durable, under whatever name the file
// has or will have, and does not make a name durable. Each change since then (a write, a truncation, a
// Chtimes) is kept or lost independently of the others; of a write there may also be left a beginning
// (ending at a sector or at any byte), some of its sectors, or only the size, with zeros for the bytes.
//
// Names. SyncDir makes durable each operation on the names of that directory: what was made there, what
// was removed from there, and what was renamed to there; a rename to another directory is durable once
// that other one is synced. Each operation since then is kept or lost independently, with these rules:
//   - A rename is atomic: the file has its old name or its new one, and what the new name meant before
//     is gone if and only if the rename was kept. For a file renamed to another directory see Two names.
//   - Operations on the same name are kept in their order: a later one only with all earlier ones. Making
//     one durable makes those durable too.
//   - A directory is removed only together with all that was done to its names before; renames of
//     directories are kept in their order.
//   - An unsynced rename to a directory that is itself unsynced is kept only with that directory.
//   - A directory whose own name is lost takes with it all that is in it, also what was synced there.
//
// A file without a durable name is lost.
//
// Two names. The rename of a file to another directory is durable when
// both directories are synced. Until then a power cut can leave it both names, and they are one file ([disk.SameFile]). The
// directory that it went to makes the new name durable, the one that it came from takes the old name away, never before
// the new one is durable. So a file that is renamed, synced under its new name and removed can come back under the old one.
// -crash.twonames=false, or [FS.SetTwoNames], gives a disk on which a renamed file has one name always, as on ext4 and xfs.
//
// This was compared with ext4, xfs and btrfs of Linux 6.18, by snapshots of the block device: a file x in directory a,
// durable with its name, is renamed to b/x, and the power is cut after the syncs named here.
//
//	                                     ext4, xfs   btrfs
//	neither directory                    a/x         a/x
//	b                                    b/x         a/x and b/x
//	a                                    b/x         b/x
//	a and b, in any order; or b/x        b/x         b/x
//	b, b/x removed, b again              gone        a/x
//	b, b/x removed, b again, a           gone        gone
//	b, another file created as a/x       b/x         a/x and b/x, of the first file
//	the same rename of a directory: b    b/x         b/x
//	a rename within a, not synced        old name    old name
//
// btrfs does so if a transaction that it committed as a whole (each 30 s, or by sync(2)) holds a/x; a name that only fsync made
// durable goes as on the others. TestPowerCutLeavesWhatTheModelSays repeats the comparison (see package internal/powercut).
//
// Failures. A Sync that fails drops the changes it was to make durable: they can still be read, and are
// lost in every power cut, also when a later Sync succeeds. A SyncDir that fails changes nothing.
//
// A killed process is no power cut: everything can be read as before, and what was not synced is still not
// durable ([Killed]).
//
// Its limits: no symlinks, no hard links but those two names, no permissions (as for root), no clock of the machine: times come
// from a logical clock that moves a millisecond with each operation, unless SetClock names another.
//
// # Proofs
//
// [EveryCrash] tries every crash, [EveryFault] every fault, and [EverySync] shows that no sync is there
// without a reason. All take a function that makes a [Scenario]:
//
//	disktest.EveryCrash(t, disktest.Options{}, func() disktest.Scenario {
//		var acknowledged bool
//		return disktest.Scenario{
//			Run: func(fsys *disktest.FS) error {
//				err := disk.WriteFile(fsys, "a", []byte("new"), 0o600)
//				acknowledged = err == nil
//				return err
//			},
//			Check: func(fsys *disktest.FS) error {
//				data, err := fsys.ReadFile("a")
//				if acknowledged && string(data) != "new" {
//					return fmt.Errorf("a holds %q (%v)", data, err)
//				}
//				return nil
//			},
//		}
//	})
package disktest
