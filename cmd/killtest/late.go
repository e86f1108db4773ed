package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// lateTime bounds each step of the last scene.
const lateTime = 30 * time.Second

// showLateCopy brings about the only case in which a file may arrive twice: SQS took it, the reply was lost, and the node
// was down for longer than SQS remembers. It gives the process that runs then.
func (t *test) showLateCopy(ctx context.Context, p *process) (*process, error) {
	if t.o.kills == 0 || t.o.mode == "delivered" { // then there is no 226 while the replies are lost
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*lateTime)
	defer cancel()
	lost := t.cloud.Fault(echotest.Fault{Service: echotest.SQS, Operation: "SendMessageBatch", Kind: echotest.ReplyLost})
	c := &client{name: t.users[0], address: t.address, random: t.chance("late"), ledger: t.ledger, trigger: t.trigger}
	defer c.hangUp()
	f, bytes := c.sized(c.name+" late copy", "late.dat", 1000)
	if !c.store(ctx, f, f.names[0], bytes) {
		return p, errors.New("the last upload was not acknowledged")
	}
	if err := t.waitCopies(ctx, f, 1); err != nil {
		return p, err
	}
	p.kill()
	<-p.exited
	lost.Clear()
	t.cloud.Clock().Advance(dedupWindow + time.Minute)
	p, err := t.startReady(ctx)
	if err != nil {
		return p, err
	}
	if err := t.waitCopies(ctx, f, 2); err != nil {
		return p, err
	}
	if left := t.drain(ctx); len(left) > 0 {
		t.ledger.violate("still on the volume after a copy was sent late: %v", left)
	}
	return p, nil
}

// waitCopies waits until each edge has n copies of a file or more.
func (t *test) waitCopies(ctx context.Context, f *file, n int) error {
	deadline := time.Now().Add(lateTime)
	for _, edge := range targets {
		for t.cloud.arrived(edge, f.sha256) < n {
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("copy %d of %v has not reached %s within %v", n, f, edge, lateTime)
			}
			pause(ctx, 10*time.Millisecond)
		}
	}
	return nil
}
