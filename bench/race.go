package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// contender is one who is measured.
type contender struct {
	name string
	// prepare, if given, makes a run ready, untimed, and returns the command line; else argv.
	command func(round int) (argv []string, err error)
	// after, if given, checks and clears up, untimed.
	after func(round int) error
}

// race has all contenders run in turns, and gives the samples of each. The order turns with the rounds, so that nobody always
// follows the same other.
func (w *world) race(ctx context.Context, contenders []contender) ([][]sample, error) {
	samples := make([][]sample, len(contenders))
	for round := range w.rounds {
		for k := range contenders {
			i := (k + round) % len(contenders)
			c := &contenders[i]
			argv, err := c.command(round)
			if err != nil {
				return nil, fmt.Errorf("prepare %s: %w", c.name, err)
			}
			if err := w.settle(ctx); err != nil {
				return nil, err
			}
			s, err := w.measure(ctx, argv...)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			samples[i] = append(samples[i], s)
			if c.after != nil {
				if err := c.after(round); err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
			}
		}
	}
	return samples, nil
}

// median of any figure of samples.
func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

func seconds(s sample) float64 { return s.took.Seconds() }

// report prints what came out of a race. rate turns seconds into the figure that people compare.
func (w *world) report(contenders []contender, samples [][]sample, unit string, amount float64) {
	ours := median(samples[0], seconds)
	var rows [][]string
	for i, c := range contenders {
		took := median(samples[i], seconds)
		lowest, highest := samples[i][0].took, samples[i][0].took
		for _, s := range samples[i] {
			lowest, highest = min(lowest, s.took), max(highest, s.took)
		}
		rows = append(rows, []string{
			c.name, fmt.Sprintf("%.2f s", took), fmt.Sprintf("%.2f to %.2f", lowest.Seconds(), highest.Seconds()),
			fmt.Sprintf("%.0f %s", amount/took, unit), fmt.Sprintf("%.2f", took/ours),
			fmt.Sprintf("%.2f s", median(samples[i], func(s sample) float64 { return s.cpu.Seconds() })),
			megabytes(median(samples[i], func(s sample) float64 { return float64(s.wire.out) })),
			megabytes(median(samples[i], func(s sample) float64 { return float64(s.wire.in) })),
		})
	}
	table(w.out, []string{"who", "median", "range", "rate", "time / georep's", "processors", "sent", "received"}, rows)
}

func megabytes(n float64) string {
	if n < 10e6 {
		return fmt.Sprintf("%.2f MB", n/1e6)
	}
	return fmt.Sprintf("%.1f MB", n/1e6)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}
