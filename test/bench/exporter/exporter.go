// Package exporter is the load of the metrics benchmark: many HTTP servers on loopback that
// look like the exporters of a cluster.
//
// A [Load] is a list of groups of equal targets. They speak the text format, or protobuf with
// native histograms and exemplars. [Start] renders every page of every target
// before the first scrape, in several steps of its values, so that serving costs little more
// than the copy to the socket. Only what must differ from scrape to scrape is made when it
// is asked for: the timestamps that cAdvisor sets, and the pages of a load whose pods are
// replaced. The content is decided by the load alone, never by chance or the clock.
//
// It does not play broken exporters; those are in package kit.
package exporter

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// steps is how many sets of values a target goes through before it starts again.
const steps = 4

// seeds is how many different targets there are in groups whose members resemble each other.
const seeds = 8

// A Load is what one run of the benchmark scrapes.
type Load struct {
	// Name is one of performance.md: M1, M2 and so on.
	Name string
	// About says in a few words what it is.
	About string
	// Interval is the time between two scrapes of a target.
	Interval time.Duration
	// Rules are relabelling rules that collectors must apply; the zero value is none.
	Rules Rules
	// Protobuf says that the targets speak Prometheus' protobuf format and nothing else.
	Protobuf bool

	groups []group
}

// Rules are two rules as allow lists have them: regular expressions, anchored as Prometheus
// anchors them.
type Rules struct {
	Drop      string // Drops samples by the names of their metrics.
	LabelDrop string // Drops labels by their names.
}

// A group is a number of targets of one kind, which is one scrape job.
type group struct {
	job     string
	targets int
	series  int  // Of each target.
	alike   bool // Targets share a few seeds.
	shuffle bool // Each scrape sees another order of lines.
	churn   bool // Pages depend on the time since the start.
	// render makes the content of the page at that many seconds since the start.
	render func(seconds uint64) func(*page)
}

// Series is how many series all targets have together.
func (l Load) Series() int {
	n := 0
	for _, g := range l.groups {
		n += g.targets * g.series
	}
	return n
}

// Targets is how many targets there are.
func (l Load) Targets() int {
	n := 0
	for _, g := range l.groups {
		n += g.targets
	}
	return n
}

// Stamped is how many series set their own timestamps, without those that Rules drop. They get
// no stale markers.
func (l Load) Stamped() int {
	n := 0
	for _, g := range l.groups {
		if g.job == "cadvisor" {
			n += g.targets * g.make(l, 0, 0).samples
		}
	}
	return n
}

func fixed(render func(*page)) func(uint64) func(*page) {
	return func(uint64) func(*page) { return render }
}

// mix1 is the mixed load M1 a number of times.
func mix1(times int, churn, shuffle bool) []group {
	nodePods, clusterPods := podSet{cadvisorPods, churn}, podSet{ksmPods, churn}
	return []group{
		{job: "node", targets: 60 * times, series: nodeSeries, alike: true, shuffle: shuffle, render: fixed(node)},
		{
			job: "cadvisor", targets: 20 * times, series: cadvisorSeries, churn: churn,
			render: func(seconds uint64) func(*page) { return cadvisor(nodePods, seconds) },
		},
		{job: "app", targets: 40 * times, series: appSeries, alike: true, shuffle: shuffle, render: fixed(app)},
		{
			job: "ksm", targets: times, series: ksmSeries, churn: churn, shuffle: shuffle,
			render: func(seconds uint64) func(*page) { return ksm(clusterPods, seconds) },
		},
	}
}

func uniques(targets int) []group {
	return []group{{job: "unique", targets: targets, series: 2000, render: fixed(unique)}}
}

// Loads returns all loads there are.
func Loads() []Load {
	return []Load{
		{Name: "M1", About: "121 targets as in a cluster", Interval: 10 * time.Second, groups: mix1(1, false, false)},
		{Name: "M2", About: "M1 four times", Interval: 30 * time.Second, groups: mix1(4, false, false)},
		{Name: "M3", About: "2000 targets of 102 series", Interval: 15 * time.Second, groups: []group{
			{job: "small", targets: 2000, series: smallSeries, alike: true, render: fixed(small)},
		}},
		{Name: "M4", About: "M1 with a tenth of the pods replaced a minute", Interval: 10 * time.Second, groups: mix1(1, true, false)},
		{Name: "M5", About: "M1 with the lines of each family in another order at each scrape", Interval: 10 * time.Second, groups: mix1(1, false, true)},
		{Name: "M6", About: "M1 with two rules: a drop by name and a labeldrop", Interval: 10 * time.Second, Rules: listRules(), groups: mix1(1, false, false)},
		{Name: "M7", About: "100 targets of 1000 series in protobuf, with native histograms and exemplars", Interval: 10 * time.Second, Protobuf: true, groups: natives(100)},
		{Name: "unique", About: "100 targets of 2000 series that share no label set", Interval: 10 * time.Second, groups: uniques(100)},
		{Name: "unique-1M", About: "500 targets of 2000 series that share no label set", Interval: 60 * time.Second, groups: uniques(500)},
		{Name: "tiny", About: "three targets, to try the benchmark itself", Interval: 2 * time.Second, groups: tiny()},
		{Name: "tiny-rules", About: "the same with rules", Interval: 2 * time.Second, Rules: listRules(), groups: tiny()},
		{Name: "tiny-native", About: "two targets in protobuf", Interval: 2 * time.Second, Protobuf: true, groups: natives(2)},
	}
}

func natives(targets int) []group {
	return []group{{job: "native", targets: targets, series: nativeSeries, alike: true, render: fixed(native)}}
}

func tiny() []group {
	return []group{
		{job: "node", targets: 1, series: nodeSeries, render: fixed(node)},
		{job: "small", targets: 1, series: smallSeries, render: fixed(small)},
		{
			job: "cadvisor", targets: 1, series: cadvisorSeries,
			render: func(uint64) func(*page) { return cadvisor(podSet{pods: cadvisorPods}, 0) },
		},
	}
}

// listRules are as long as the lists that people have: they drop about a quarter of M1, and
// labels that tell no series from another.
func listRules() Rules {
	return Rules{
		Drop: "container_(pressure_.+|spec_.+|memory_(failcnt|failures_total|mapped_file|swap)|cpu_cfs_throttled_seconds_total|last_seen)" +
			"|go_(gc|memstats)_.+|kube_pod_(created|restart_policy|status_(ready|scheduled|qos_class)|container_status_(running|terminated))" +
			"|node_(hwmon|softnet|vmstat|netstat)_.+|node_(disk_ata|network_(carrier|transmit_queue)).*",
		LabelDrop: "id|name|uid",
	}
}

// Find returns the load with that name.
func Find(name string) (Load, error) {
	var known []string
	for _, l := range Loads() {
		if l.Name == name {
			return l, nil
		}
		known = append(known, l.Name)
	}
	return Load{}, fmt.Errorf("there is no load %q, only %q", name, known)
}

// A body is one page, ready to be served.
type body struct {
	plain, gzip []byte // The gzip form is nil where timestamps change the text.
	protobuf    bool
	stamps      []stamp
	tally
}

// make renders the page of a target at a step, counted from the first scrape.
func (g group) make(load Load, target int, step uint64) *body {
	seed, values := uint64(target), step%steps
	if g.alike {
		seed %= seeds
	}
	// The same seed in two groups must not give the same names.
	p := page{seed: seed + uint64(len(g.job))<<16, step: values}
	if load.Rules.Drop != "" {
		p.drop = regexp.MustCompile("^(?:" + load.Rules.Drop + ")$") // All are constants of this package.
	}
	seconds := uint64(0)
	if g.churn {
		seconds = step * uint64(load.Interval/time.Second)
		p.step = step
	}
	g.render(seconds)(&p)
	b := &body{plain: p.buf, protobuf: load.Protobuf, stamps: p.stamps, tally: p.tally}
	if b.protobuf {
		b.stamps = nativeStamps(p.buf)
	}
	if g.shuffle {
		b.plain = p.shuffled()
	}
	b.plain = slices.Clip(b.plain)
	return b
}

// Job is one scrape job of a load.
type Job struct {
	Name    string
	Targets []string // Addresses, host:port.
}

// Counts is what was served since the start, in complete answers only.
type Counts struct {
	Scrapes    int64
	Compressed int64 // Scrapes that asked for gzip and got it.
	Refused    int64 // Scrapes that were not answered, or not to the end; they are in no other figure.
	Exposed    int64 // Samples and histograms, also those that Rules drop.
	// Samples, Histograms and Exemplars are those that must arrive.
	Samples, Histograms, Exemplars int64
	Bytes                          int64  // Of bodies as they were sent.
	Bits                           uint64 // The sum of the bits of what must arrive: samples, and the sums of histograms.
}

// Values is how many samples and histograms must arrive.
func (c Counts) Values() int64 { return c.Samples + c.Histograms }

// Sub returns what was served after earlier.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		c.Scrapes - earlier.Scrapes, c.Compressed - earlier.Compressed, c.Refused - earlier.Refused, c.Exposed - earlier.Exposed,
		c.Samples - earlier.Samples, c.Histograms - earlier.Histograms, c.Exemplars - earlier.Exemplars,
		c.Bytes - earlier.Bytes, c.Bits - earlier.Bits,
	}
}
