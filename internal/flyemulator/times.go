package flyemulator

import "time"

// Times say how long things take. What is zero takes as long as users of the
// API measured; what is negative takes no time.
type Times struct {
	AppVisible    time.Duration // after its creation without wait=true
	AppLeaves     time.Duration // after its deletion: its name is not free before
	Launch        time.Duration // created, until it is starting
	Starting      time.Duration // until it is started
	Prepare       time.Duration // with skip_launch: created, until it is stopped
	PrepareCold   time.Duration // the same for an image no machine of the app has had yet; 0: Prepare
	Replacing     time.Duration // an update of one that runs, until it is starting
	UpdateStopped time.Duration // an update of one that does not run
	Stopping      time.Duration
	StillActive   time.Duration // after it has stopped: starting it is refused
	Suspending    time.Duration
	Resuming      time.Duration
	Destroying    time.Duration
	VolumeBound   time.Duration // after its machine was destroyed
	SecretsSeen   time.Duration // after they were written
	CheckGrace    time.Duration // where a check has none of its own
	Run           time.Duration // of a machine whose image ends by itself
}

func (t Times) withDefaults() Times {
	for _, d := range []struct {
		to *time.Duration
		d  time.Duration
	}{
		{&t.AppVisible, time.Second},
		{&t.AppLeaves, 2 * time.Second},
		{&t.Launch, time.Second},
		{&t.Starting, 2 * time.Second},
		{&t.Prepare, 9 * time.Second},
		{&t.PrepareCold, 9 * time.Second},
		{&t.Replacing, 4 * time.Second},
		{&t.UpdateStopped, 3500 * time.Millisecond},
		{&t.Stopping, time.Second},
		{&t.StillActive, 8 * time.Second},
		{&t.Suspending, time.Second},
		{&t.Resuming, 300 * time.Millisecond},
		{&t.Destroying, time.Second},
		{&t.VolumeBound, 30 * time.Second},
		{&t.SecretsSeen, 500 * time.Millisecond},
		{&t.CheckGrace, 2 * time.Second},
		{&t.Run, 2 * time.Second},
	} {
		if *d.to == 0 {
			*d.to = d.d
		}
	}
	return t
}
