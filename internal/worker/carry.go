package worker

import (
	"context"
	"fmt"
	"path"

	"georep/internal/dial"
	"georep/internal/replicate"
	"georep/internal/transfer"
)

// partDir is where the agent keeps content that is not complete, relative to its root.
const partDir = ".georep/part"

// openCarrier prepares the program that Options.SyncMethod names.
func (w *worker) openCarrier(context.Context) error {
	o := &w.o
	if o.SyncMethod == "" || o.SyncMethod == "native" || o.DryRun {
		return nil
	}
	remote, err := o.remote()
	if err != nil {
		return err
	}
	remote.Interactive = false // the connections of the agents have asked already, and a second question would come at any time
	w.carry, err = transfer.New(transfer.Options{
		Method: transfer.Method(o.SyncMethod), Remote: remote, Part: path.Join(o.Target.Path, partDir), StateDir: o.StateDir,
		Limit: o.BwLimit, Limiter: w.limiter, Compress: o.Compress, Warn: w.notice,
	})
	return err
}

// carrier makes the program the loop's; nil when there is none.
func (w *worker) carrier() replicate.Carrier {
	if w.carry == nil {
		return nil
	}
	return carrier{w.carry}
}

type carrier struct{ *transfer.Carrier }

// Carry implements replicate.Carrier.
func (c carrier) Carry(ctx context.Context, files []replicate.Carried, progress func(n int64)) bool {
	open := make([]transfer.File, 0, len(files))
	for _, f := range files {
		descriptor, ok := f.Content.(interface{ FD() int })
		if !ok {
			return false // a source without descriptors has nothing that a program could read
		}
		open = append(open, transfer.File{ID: f.ID, FD: descriptor.FD(), Size: f.Content.Size()})
	}
	return c.Carrier.Carry(ctx, open, progress)
}

// remote are the options of ssh to the destination's host, without a command; only its zero value for a local one.
func (o *Options) remote() (dial.Options, error) {
	if o.Target.Host == "" {
		return dial.Options{}, nil
	}
	d := dial.Options{User: o.Target.User, Host: o.Target.Host, Port: o.Port, Interactive: o.Interactive, Ciphers: o.Ciphers}
	if o.SSHCommand != "" {
		words, err := dial.Words(o.SSHCommand)
		if err != nil {
			return d, fmt.Errorf("read --ssh-command: %w", err)
		}
		d.SSH = words
	}
	return d, nil
}
