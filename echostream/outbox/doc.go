// Package outbox is a durable queue of files: what [Outbox.Put] has taken in reaches every target, byte for byte,
// in the order of its lane, whatever is killed, restarted or offline in between.
//
//	box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: deliverer})
//	go box.Run(ctx)
//	entries, errs := box.Put(ctx, []outbox.Item{{Path: "drop/scan.pdf", Name: "scan.pdf"}})
//
// # What it promises
//
// An entry has one tracking id, durable before the first attempt. It leaves when all targets of the [Deliverer] have
// acknowledged it and it is audited; or, if that can never be, it is set aside in failed/ with the reason, once
// every target has either taken or refused it. All else is tried again for ever, with growing pauses. Lanes do not
// wait for each other, nor do targets: each lane has one batch in flight for each target, and nothing goes to
// a target before what failed ahead of it in its lane was tried again.
//
// # Its limits
//
// A target gets an entry a second time, with the same tracking id, if the power is cut between its acknowledgement and
// the note of it: at most one batch for each lane and target, and 500 entries that all targets have. Entries whose
// audit is late are noted as sent, so neither an outage of the audit nor what it leaves to catch up with holds
// anything up, and a restart in it sends nothing again.
// A target that is far behind the others has files prepared again for it, since payloads are not kept for
// long. There is one process to an outbox.
//
// # On the disk
//
//	outbox/0000000000000042-<tracking id>.data   a waiting file, by its sequence number
//	outbox/0000000000000007.journal              records, a line each: CRC-32C and JSON; see type record
//	failed/0000000000000042-<tracking id>.data   a file that was set aside
//	failed/0000000000000042-<tracking id>.json   its record, with the failure
//
// A file in outbox/ waits, and one that is not there does not: the journal only describes. Records share
// files, so that those of many entries are one write and one sync, and 100,000 are read in one go. A journal
// segment goes when nothing in it is the latest about a waiting file; the few that are left in an old one are written anew.
//
// To retry what is in failed/, stop the node, move both files of an entry back to outbox/, and start it. The entry keeps its id
// and its place in the order, and goes only to the targets that have not acknowledged it.
//
// # Syncs, and what each protects
//
//   - journal.write syncs the segment: the record of a file is durable before its rename, and an
//     acknowledgement before the next batch goes to the same target.
//   - journal.create syncs outbox/: a new segment's name, before anything in it is relied on.
//   - Put syncs outbox/ (syncArrivals, shared by all who ask at the same time): the rename is durable before the first attempt, or a power cut could
//     bring the file back to drop/ and have it sent again with another id.
//   - removeDelivered syncs outbox/: the removal is durable before the journal forgets the entry, and before
//     Options.Gone tells of it. So a file without a record is never one that was delivered.
//   - storeAside syncs the record and failed/ (disk.WriteFile), then failed/ again: the record before the file,
//     and both before the journal forgets the entry.
//   - Open syncs the segments and outbox/: what a killed process had written and not synced is relied on from then on.
//
// # What a crash leaves, and what Open makes of it
//
//   - A record without a file, the file unchanged where Put found it, and a later one in outbox/: the power cut has kept
//     the later rename only. The earlier one is done again, so that the file keeps its place.
//   - Any other record without a file: it was delivered, or the claim never was. It is passed over.
//   - A torn line: never acknowledged. It is passed over.
//   - A file and its record: it waits, and goes to the targets that the record does not name.
//   - A file in outbox/ and a record in failed/: setting it aside was cut short. The file still waits.
//   - A removal that came undone: the entry is sent again, with the same tracking id.
//   - Temporary files, old segments: removed.
//   - A file without a record: no crash leaves that, so it may not have been delivered. It is set aside with an ERROR.
package outbox
