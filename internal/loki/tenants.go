package loki

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// Why lines are dropped before they are in a body.
const (
	dropTooManyTenants = "too_many_tenants"
	dropInvalidTenant  = "invalid_tenant"
)

const (
	// maxTenants bounds the tenants of a destination, since each has memory and files: a stage
	// that takes the tenant from the text of lines may find any number.
	maxTenants = 100
	// sharedMemory is what the queues of a destination hold in memory together, unless each has
	// less than leastMemory then.
	sharedMemory = 4 * config.MiB
	leastMemory  = 256 * config.KiB
	// sharePause is how often tenants get their share of the spool.
	sharePause = 5 * time.Second
	// idleTenant is after how long without lines a tenant gives up its queue.
	idleTenant = time.Hour
	// tenantPrefix and ownDirectory are the names of directories: a tenant may be called anything.
	// The latter is for lines without a tenant. A directory keeps its tenant: that of the
	// destination may change before all is sent.
	tenantPrefix = "tenant-"
	ownDirectory = "own"
)

// tenantSyntax is what Loki accepts.
var tenantSyntax = regexp.MustCompile(`^[a-zA-Z0-9!_.*'()-]{1,150}$`)

// ValidTenant tells whether Loki, and Mimir, accept a name for a tenant.
func ValidTenant(name string) bool {
	return tenantSyntax.MatchString(name) && name != "." && name != ".."
}

// UnservedError says why there is no queue for a tenant.
type UnservedError struct {
	Reason string // of the drops
	Tenant string
	Err    error
}

func (e *UnservedError) Error() string { return fmt.Sprintf("tenant %.150q: %v", e.Tenant, e.Err) }

// Unwrap returns what is wrong.
func (e *UnservedError) Unwrap() error { return e.Err }

// Tenants are the queues of one destination, one for each tenant that has been seen. They share
// the memory and the disk space of the destination: each may use what the others leave, and each
// has its equal part for sure.
type Tenants struct {
	log   *slog.Logger
	own   string // the destination's tenant
	dir   string
	spool SpoolConfig
	build func(tenant, dir string) *delivery.Queue
	m     *delivery.Metrics

	mu     sync.Mutex // guards the rest
	queues map[string]*tenantQueue
	start  func(*tenantQueue) // while Run runs
}

type tenantQueue struct {
	*delivery.Queue
	dir  string
	stop context.CancelFunc // nil before the start
	done chan struct{}

	putting sync.RWMutex // held for reading by every Put
	retired bool
}

// Put implements [Queue].
func (q *tenantQueue) Put(ctx context.Context, b delivery.Block) error {
	q.putting.RLock()
	defer q.putting.RUnlock()
	if q.retired {
		return delivery.ErrClosed
	}
	return q.Queue.Put(ctx, b)
}

// retire ends the taking of blocks of a queue that has had nothing to do for long, and tells
// whether it is one.
func (q *tenantQueue) retire() bool {
	if !q.putting.TryLock() {
		return false
	}
	defer q.putting.Unlock()
	q.retired = q.stop != nil && q.Idle() >= idleTenant
	return q.retired
}

// NewTenants returns the queues of a destination whose lines are of the tenant own, which may be
// empty, unless they say otherwise. They spool below dir. build makes a queue that keeps what is
// behind in a directory, which is empty for memory only; m knows the queue then.
func NewTenants(log *slog.Logger, own, dir string, spool SpoolConfig, m *delivery.Metrics, build func(tenant, dir string) *delivery.Queue) *Tenants {
	t := &Tenants{log: log, own: own, dir: dir, spool: spool, build: build, m: m, queues: map[string]*tenantQueue{}}
	t.add("")
	return t
}

// directory returns where the lines of a tenant, "" for the destination's own, are spooled.
func (t *Tenants) directory(tenant string) string {
	if tenant = cmp.Or(tenant, t.own); tenant == "" {
		return filepath.Join(t.dir, ownDirectory)
	}
	return filepath.Join(t.dir, tenantPrefix+tenant)
}

// Queue implements [Queues].
func (t *Tenants) Queue(tenant string) (Queue, *UnservedError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tenant == t.own {
		tenant = ""
	}
	if q := t.queues[tenant]; q != nil {
		return q, nil
	}
	if !ValidTenant(tenant) {
		return nil, &UnservedError{dropInvalidTenant, tenant, errors.New("is no name for a tenant; the stage that sets it must give 1 to 150 letters, digits and ! - _ . * ' ( )")}
	}
	if len(t.queues) >= maxTenants {
		return nil, &UnservedError{dropTooManyTenants, tenant, fmt.Errorf("there are %d tenants already; correct the stage that sets it", maxTenants)}
	}
	return t.add(tenant), nil
}

// add makes a queue. It needs the lock, unless nobody else knows t.
func (t *Tenants) add(tenant string) *tenantQueue {
	q := &tenantQueue{done: make(chan struct{})}
	if t.spool.MaxBytes > 0 {
		q.dir = t.directory(tenant)
	}
	q.Queue = t.build(cmp.Or(tenant, t.own), q.dir)
	t.queues[tenant] = q
	if t.start != nil {
		t.start(q)
	}
	if len(t.queues) > 1 {
		t.share()
	}
	return q
}

// Run runs the queues until ctx ends, those with something left on disk from a former run too. The
// error is that of a queue that cannot run.
func (t *Tenants) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	t.begin(func(q *tenantQueue) {
		own, stop := context.WithCancel(ctx)
		q.stop = stop
		wg.Go(func() {
			defer close(q.done)
			defer stop()
			if err := q.Run(own); err != nil {
				select {
				case failed <- err:
				default: // One is enough.
				}
			}
		})
	})
	ticker := time.NewTicker(sharePause)
	defer ticker.Stop()
	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
			cancel()
		case <-ticker.C:
			t.upkeep()
		}
	}
	t.mu.Lock()
	t.start = nil
	t.mu.Unlock()
	wg.Wait()
	return err
}

// begin starts the queues that there are, finds those of a former run, and sees to it that later
// ones are started.
func (t *Tenants) begin(start func(*tenantQueue)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = start
	if t.spool.MaxBytes > 0 {
		t.adopt()
	}
	for _, q := range t.queues {
		start(q)
	}
	if t.spool.MaxBytes == 0 {
		return
	}
	found, err := filepath.Glob(filepath.Join(escapeGlob(t.dir), tenantPrefix+"*", "*.seg"))
	if err != nil {
		t.log.Warn("spools of a former run cannot be looked for", "path", t.dir, "err", err)
	}
	for _, path := range found {
		tenant := strings.TrimPrefix(filepath.Base(filepath.Dir(path)), tenantPrefix)
		if t.queues[tenant] == nil && tenant != t.own && ValidTenant(tenant) {
			t.add(tenant)
		}
	}
}

// adopt gives lines that were spooled without a tenant to the destination's, now that it has one.
func (t *Tenants) adopt() {
	from := filepath.Join(t.dir, ownDirectory)
	if left, err := filepath.Glob(filepath.Join(escapeGlob(from), "*.seg")); t.own == "" || err != nil || len(left) == 0 {
		return
	}
	if err := os.Rename(from, t.directory("")); err != nil {
		t.log.Warn("lines that were spooled without a tenant stay where they are, remove tenant from the destination to have them sent", "path", from, "err", err)
	}
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(path)
}

// upkeep gives each tenant its share, and gives up those that have had no lines for long.
func (t *Tenants) upkeep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queues) == 1 {
		return
	}
	for _, tenant := range slices.Collect(maps.Keys(t.queues)) {
		q := t.queues[tenant]
		if tenant == "" || !q.retire() {
			continue
		}
		q.stop()
		<-q.done // At once, since there is nothing to do.
		t.m.Forget(q.Queue)
		delete(t.queues, tenant)
		if q.dir != "" && q.Status().SkippedFiles == 0 { // What cannot be read now may be some day.
			if err := os.RemoveAll(q.dir); err != nil {
				t.log.Warn("directory of a tenant without lines cannot be removed", "path", q.dir, "err", err)
			}
		}
	}
	t.share()
}

// share sets the limits of the queues. It needs the lock.
func (t *Tenants) share() {
	n := config.Size(len(t.queues))
	used := config.Size(0)
	for _, q := range t.queues {
		used += config.Size(q.DiskBytes())
	}
	for _, q := range t.queues {
		others := used - config.Size(q.DiskBytes())
		disk := max(t.spool.MaxBytes/n, t.spool.MaxBytes-min(others, t.spool.MaxBytes))
		q.SetLimits(max(sharedMemory/n, leastMemory), disk)
	}
}

// Status returns the status of every queue, the destination's own first.
func (t *Tenants) Status() (all []delivery.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tenant := range slices.Sorted(maps.Keys(t.queues)) {
		all = append(all, t.queues[tenant].Status())
	}
	return all
}
