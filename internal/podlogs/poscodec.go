package podlogs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// The file of positions is text, one JSON object a line: what it is, the files, and the end
// with the number of files and a checksum over all bytes before it. Without its end the file
// is torn.
const (
	positionsFormat = "ingot log positions"
	// positionsVersion is what is written. Version 1, which has no size and no done, is read.
	positionsVersion = 2
)

type positionsHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// storedPosition is one file's place.
type storedPosition struct {
	Path string `json:"path"`
	// Dev is 0 if the inode has become that of another file.
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Offset int64  `json:"offset"`
	// HeadSum is a hash over the first HeadSize bytes of the file.
	HeadSize int    `json:"head_size"`
	HeadSum  uint64 `json:"head_sum"`
	// Size is how large the file was when it was last seen, before it was compressed.
	Size int64 `json:"size,omitempty"`
	// Done tells that all of a file that does not grow any more was acknowledged.
	Done bool `json:"done,omitempty"`
}

type positionsEnd struct {
	Files int    `json:"files"`
	CRC   string `json:"crc32c"`
}

func encodePositions(recs []storedPosition) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	// None of the values can fail to be encoded, and a strings.Builder takes everything.
	_ = enc.Encode(positionsHeader{positionsFormat, positionsVersion})
	for i := range recs {
		_ = enc.Encode(&recs[i])
	}
	_ = enc.Encode(positionsEnd{len(recs), checksum([]byte(b.String()))})
	return b.String()
}

func decodePositions(data []byte) ([]storedPosition, error) {
	head, _, _ := bytes.Cut(data, []byte("\n"))
	var h positionsHeader
	if err := json.Unmarshal(head, &h); err != nil || h.Format != positionsFormat {
		return nil, errors.New("decode positions: the file does not begin as one of positions does")
	}
	if h.Version < 1 || h.Version > positionsVersion {
		return nil, fmt.Errorf("decode positions: the file has version %d, this program knows versions up to %d", h.Version, positionsVersion)
	}
	body, ok := bytes.CutSuffix(data, []byte("\n"))
	if !ok {
		return nil, errors.New("decode positions: the file is cut off")
	}
	end := bytes.LastIndexByte(body, '\n') + 1
	var e positionsEnd
	if err := strict(body[end:], &e); err != nil || e.CRC == "" {
		return nil, errors.New("decode positions: the file is cut off")
	}
	if sum := checksum(body[:end]); sum != e.CRC {
		return nil, fmt.Errorf("decode positions: the checksum is %s, the file says %s", sum, e.CRC)
	}
	lines := bytes.Split(body[:end], []byte("\n"))
	lines = lines[1 : len(lines)-1] // the header, and nothing after the last line feed
	if len(lines) != e.Files {
		return nil, fmt.Errorf("decode positions: there are %d files, the file says %d", len(lines), e.Files)
	}
	recs := make([]storedPosition, len(lines))
	for i, line := range lines {
		r := &recs[i]
		if err := strict(line, r); err != nil {
			return nil, fmt.Errorf("decode positions: file %d: %w", i+1, err)
		}
		if r.Offset < 0 || r.Size < 0 || r.HeadSize < 0 || r.HeadSize > fingerprintSize {
			return nil, fmt.Errorf("decode positions: file %d: a number is out of range", i+1)
		}
	}
	return recs, nil
}

// strict decodes exactly one JSON value without unknown fields.
func strict(line []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("there is more than one value on the line")
	}
	return nil
}

func checksum(data []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}
