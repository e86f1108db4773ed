// Package outbox is a durable queue of files: what [Outbox.Put] has taken in reaches every target, byte for byte,
// in the order of its lane, whatever is killed, restarted or offline in between.
//
//	box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: deliverer})
//	go box.Run(ctx)
//	entries, errs := box.Put(ctx, []outbox.Item{{Path: "drop/scan.pdf", Name: "scan.pdf"}})
//
// # What it promises
//
// An entry is durable when Put returns: its bytes, its record and its place in the order. It has one tracking id. It leaves when all
// targets of the [Deliverer] have acknowledged it and it is audited; or, if that can never be, it is set aside in failed/ with the
// reason, once every target has either taken or refused it. All else is tried again for ever, with growing pauses. Lanes do not
// wait for each other, nor do targets: each lane has one batch in flight for each target, and nothing goes to
// a target before what failed ahead of it in its lane was tried again. What is due within 10 ms of the beginning of a batch
// goes together, in the next one.
//
// Until an entry is due it is its owner's, who may give it a Wait, find it by its Key, and Edit, Suspend, replace and Withdraw it. Each of
// these is durable when its call returns, except Suspend; after an error the entry is as before. Put alone, without a Key and a Wait, is all
// that most bridges need.
//
// Damaged bytes are never sent if the checksum is known and the Deliverer reads the file from its start to its end. A file that the disk cannot read (EIO)
// is set aside after some minutes; what the machine is short of for now (descriptors, memory) is tried again for ever.
//
// # Its limits
//
// A target gets an entry a second time, with the same tracking id, if the power is cut, or the disk fails, between its acknowledgement and
// the note of it: at most one batch for each lane and target, and at most 500 entries that all targets have. A stream notes
// its batch before it sends the next one. If the disk refuses both to remove an entry and to note it, nothing more is
// sent until it does either. On a full volume removing works, and the file "reserve" makes room for notes.
//
// An error of the journal whose line has reached the disk all the same, and the end of the process before the next line, can leave a change
// that was refused. An error of Put can leave an entry that is delivered, which the log then says.
//
// A target that is far behind the others has files prepared again for it, since payloads are not kept for
// long. There is one process to an outbox; nothing here keeps a second one out.
//
// # On the disk (format 2)
//
//	outbox/0000000000000042-<tracking id>.data   a waiting file, by its sequence number
//	outbox/0000000000000007.journal              records, a line each: CRC-32C and JSON; see type journalLine
//	outbox/reserve                               see type reserve
//	failed/0000000000000042-<tracking id>.data   a file that was set aside
//	failed/0000000000000042-<tracking id>.json   its record, with the failure
//
// A file in outbox/ waits, unless its record says that it is void, withdrawn or replaced; one that is not there does not: the journal
// only describes. The last record of a file counts. A record without its file is void, and with it what it says of another entry. Records share
// files, so that those of many entries are one write and one sync, and 100,000 are read in one go. A journal
// segment goes when nothing in it is the latest about a waiting file; the few that are left in an old one are written anew. Format 1, without
// keys, waits and moves, is read; a newer format is refused, and nothing changed.
//
// [Outbox.Retry] sends again what is in failed/: the entry keeps its id and its place in the order, and goes only to the targets that have not acknowledged
// it. To move both files of an entry back to outbox/ while the node is stopped does the same.
//
// # The states of an entry
//
//	accepting   Put is not done with it: it is not to be found
//	waiting     its owner may change it; it holds back its lane unless it yields, or is suspended beyond its Wait
//	due         it may be sent, and can no longer be changed
//	sent        all targets have it, or have refused it; its audit is to come
//	delivered, rejected, aside, withdrawn, voided
//	            it leaves: its file is to be removed, set aside, or moved to where its owner wants it
//	left        it is gone, durably
//
// # Tentative entries
//
// Where the volume may go any time, an owner tells its client of a file only when it is delivered: see [Tentative] and [Outbox.Await]. The first
// attempt is noted durably before it is made, so Open knows what was perhaps sent (it is finished) and what was not (it is removed). What was delivered when
// nobody awaited it any more is remembered for an hour, in the journal, until its owner asks ([Outbox.Same]) or has a newer version.
//
// # Syncs, and what each protects
//
//   - Put syncs the file: the bytes, before the rename.
//   - journal.append syncs the segment: the record of a file, before its rename; an Edit, before it returns; and an
//     acknowledgement, before the next batch goes to the same target.
//   - attempt and rememberLate sync the segment, by journal.write: what a restart removes was never sent, and what was delivered is known before it is gone.
//   - journal.create syncs outbox/: a new segment's name, before anything in it is relied on.
//   - Put syncs outbox/ (syncDir, shared by all who ask at the same time): the rename, before the entry is acknowledged or sent. A power cut could
//     bring the file back to where it stood.
//   - removeFiles syncs the directories that files came from (syncSources): on btrfs a renamed file can have both names after a power cut until both
//     directories are synced, and the old one must not be what is left.
//   - removeFiles syncs outbox/: the removal, before the journal forgets the entry, before Options.Gone tells of it, and before the removal of what
//     has replaced it. So a file without a record is never one that was delivered.
//   - moveBack syncs the directory to which a withdrawn file went, before outbox/.
//   - Edit syncs both parents of a Move, before the journal says that it is done.
//   - storeAside syncs the record and failed/ (disk.WriteFile), then failed/ again: the record before the file,
//     and both before the journal forgets the entry.
//   - Retry syncs the segment, then outbox/: the record, then the file's place, before the record in failed/ goes. From there on it is like any other entry, whose
//     file came from failed/.
//   - Discard syncs failed/: what was discarded does not come back.
//   - Open syncs the segments, outbox/, and the directories of moves and withdrawals: what a killed process had done and not synced is relied on from then on.
//
// # What a crash leaves, and what Open makes of it
//
//   - A record without a file: it was delivered, or withdrawn, or its Put never ended. It is passed over.
//   - A torn line: never acknowledged. It is passed over.
//   - A file and its record: it waits, for no longer than it was asked to, and goes to the targets that the record does not name.
//   - A file that has its old name, too: that one is removed; of a void entry, or one withdrawn to there, the one in outbox/.
//   - A file that was replaced, withdrawn or given up by Put: it is removed or moved, what was replaced first.
//   - A Move without the line that says it is done: the directory is renamed, if it has its old name and the new one is free.
//   - A file in outbox/ and a record in failed/: setting it aside was cut short, or all of a Retry was done but for that. The file still waits.
//   - A file in failed/ without its record: Discard was cut short. It stays, with a reason that says so.
//   - A removal that came undone: the entry is sent again, with the same tracking id.
//   - Temporary files, old segments: removed.
//   - A file without a record: no crash leaves that, so it may not have been delivered. It is set aside with an ERROR.
//
// # Who owns what
//
// Outbox.mu guards the entries, lanes, targets, preparations and the accounts of the segments; it is never held over a call of the Deliverer, nor over work on
// the disk but OpenFile's open. Whoever adds lines to the journal does so under mu, in the order of what they say, and waits for their round without it. The
// goroutine that runs a round alone touches the end of the current segment (type shared has one run at a time). The calls of Put that come while others are
// under way form a group: one of them takes them all in (makeDurable), and alone touches their arrivals meanwhile.
//
// While Run runs there are: a goroutine for each lane and target that has something to send (runStream, at most 128 for a target at a time),
// which alone changes its back-off, has one batch in flight, and notes what came of it; up to Options.Workers that make the payloads of small files, and as many of large ones (prepareAll); one for audits
// (auditAll), which notes what it could not audit; one for what leaves (removeAll), which alone removes segments; and Run's own, which asks for the targets. An entry that is busy
// belongs to the Edit, Withdraw or Put that has made it so, and is neither sent nor changed by another.
package outbox
