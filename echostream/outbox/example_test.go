package outbox_test

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// printer is a Deliverer whose only target is standard output.
type printer struct{}

func (printer) Targets() []string { return []string{"stdout"} }

// Prepare reads the file once for all targets.
func (printer) Prepare(_ context.Context, _ outbox.Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (printer) Send(_ context.Context, target string, batch []outbox.Prepared) []error {
	for _, p := range batch {
		fmt.Printf("%s gets %s: %s\n", target, p.Entry.Name, p.Payload)
	}
	return make([]error, len(batch)) // all were taken
}

func (printer) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
}

// What a bridge has to do: put files on the volume, claim them, and say how one is delivered.
func Example() {
	dir, err := os.MkdirTemp("", "bridge-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	volume, err := disk.Open(dir)
	if err != nil {
		panic(err)
	}
	defer volume.Close()

	delivered := make(chan outbox.Entry)
	queue, err := outbox.Open(outbox.Options{
		FS: volume, Deliverer: printer{},
		Gone: func(e outbox.Entry, _ outbox.Gone) { delivered <- e },
	})
	if err != nil {
		panic(err)
	}
	if err := disk.WriteFile(volume, "order-7.txt", []byte("ten of them"), 0o600); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	if _, errs := queue.Put(ctx, []outbox.Item{{Path: "order-7.txt", Name: "order-7.txt"}}); errs[0] != nil {
		panic(errs[0]) // not accepted: the file stands where it stood
	}
	// From here on it is delivered, whatever crashes.
	ended := make(chan error)
	go func() { ended <- queue.Run(ctx) }()
	fmt.Println((<-delivered).Name, "is delivered")
	stop()
	if err := <-ended; err != nil {
		panic(err)
	}
	if err := queue.Close(); err != nil {
		panic(err)
	}
	// Output:
	// stdout gets order-7.txt: ten of them
	// order-7.txt is delivered
}
