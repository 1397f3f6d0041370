package series

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// Shared is what the tables of a process share. It may be used from several goroutines.
type Shared struct {
	seed       maphash.Seed
	mismatches atomic.Uint64
	enc        *zstd.Encoder
	dec        *zstd.Decoder
	scratches  sync.Pool // Of *scratch.
	undos      sync.Pool // Of *[]undo.
}

// scratch is memory that is needed for a moment.
type scratch struct {
	key, labels, raw, packed []byte
	ended                    []uint64
}

// NewShared returns what tables share, with a seed of its own.
func NewShared() *Shared {
	// The options are constant and right, so neither fails.
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(2*blockSize), zstd.WithEncoderCRC(false))
	dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.IgnoreChecksum(true))
	s := &Shared{seed: maphash.MakeSeed(), enc: enc, dec: dec}
	s.scratches.New = func() any { return new(scratch) }
	s.undos.New = func() any { return new([]undo) }
	return s
}

// Seed returns the seed of the hashes of keys, for the parser: a key's hash is
// maphash.Bytes(seed, key).
func (s *Shared) Seed() maphash.Seed { return s.seed }

// Mismatches returns how often the rotating audit found that a row gave other labels than
// those it was added with, since the start of the process.
func (s *Shared) Mismatches() uint64 { return s.mismatches.Load() }

// NewTable returns an empty table. target is the labels, in wire form, that most series of
// the target get from it: its own and common external ones. They are kept once a table; it is
// no error when a finished set lacks some, or has others of that name.
func (s *Shared) NewTable(target model.Labels) *Table {
	return &Table{shared: s, target: newTargetLabels(target), replaced: none}
}

func (s *Shared) scratch() *scratch { return s.scratches.Get().(*scratch) }

// free takes a scratch back, unless it has grown beyond what is worth keeping.
func (s *Shared) free(m *scratch) {
	if cap(m.ended) <= 1<<16 && cap(m.raw) <= 1<<18 {
		s.scratches.Put(m)
	}
}

// final is the hash of a finished label set.
func (s *Shared) final(ls []byte) uint32 { return uint32(maphash.Bytes(s.seed, ls)) }
