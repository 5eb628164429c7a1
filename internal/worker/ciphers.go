package worker

import (
	"context"
	"fmt"

	"georep/internal/wire"
)

// keyCiphers is, among the index's values, whether the choice of ciphers is left to ssh, because the destination's processor has no
// instructions for AES.
const (
	keyCiphers = "ciphers"
	leftToSSH  = "ssh"
)

// chooseCiphers has ssh use the ciphers that are fast where processors have instructions for AES: here, and as far as is known there.
func (w *worker) chooseCiphers(ctx context.Context) error {
	if w.o.Target.Host == "" || w.o.Dial != nil || !wire.FastAES() {
		return nil
	}
	noted, _, err := w.index.Value(keyCiphers)
	if err != nil {
		return fmt.Errorf("read what is known of ciphers: %w", err)
	}
	d, err := w.o.remote()
	if err != nil || string(noted) == leftToSSH {
		return err
	}
	w.o.Ciphers = d.FastCiphers(ctx)
	return nil
}

// judgeCiphers notes what the first connection has told of the destination's processor, for the connections after it.
func (w *worker) judgeCiphers(peer wire.Greeting) error {
	noted, _, err := w.index.Value(keyCiphers)
	if err != nil {
		return fmt.Errorf("read what is known of ciphers: %w", err)
	}
	slow := !peer.Has(wire.FeatureAES)
	if slow == (string(noted) == leftToSSH) || slow && w.o.Ciphers == "" {
		return nil
	}
	value := ""
	if slow {
		value, w.o.Ciphers = leftToSSH, ""
	}
	if err := w.index.SetValue(keyCiphers, []byte(value)); err != nil {
		return fmt.Errorf("note what is known of ciphers: %w", err)
	}
	return nil
}
