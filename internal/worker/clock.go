package worker

import (
	"fmt"
	"strconv"
	"time"
)

// keyTimeStep is, among the index's values, in which steps the destination keeps times, in nanoseconds: a dry run cannot find it out.
const keyTimeStep = "time-step"

// noteClock notes how the destination keeps times, and says so where it does not keep all of them.
func (w *worker) noteClock(step time.Duration) error {
	if step > 0 {
		w.notice(fmt.Sprintf("the destination's file system keeps times in steps of %s: what is between is cut off there", step))
	}
	w.bound.timeStep = step
	noted, _, err := w.index.Value(keyTimeStep)
	if err != nil {
		return fmt.Errorf("read how the destination keeps times: %w", err)
	}
	now := strconv.FormatInt(int64(step), 10)
	if string(noted) == now {
		return nil
	}
	if err := w.index.SetValue(keyTimeStep, []byte(now)); err != nil {
		return fmt.Errorf("note how the destination keeps times: %w", err)
	}
	return nil
}

// recallClock takes what was noted.
func (w *worker) recallClock() error {
	noted, found, err := w.index.Value(keyTimeStep)
	if err == nil && found {
		var step int64
		step, err = strconv.ParseInt(string(noted), 10, 64)
		w.bound.timeStep = time.Duration(step)
	}
	if err != nil {
		return fmt.Errorf("read how the destination keeps times: %w", err)
	}
	return nil
}
