package podlogs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// The file of positions is text, one JSON object a line: what it is, the files, and the end
// with the number of files and a checksum over all bytes before it. Without its end the file
// is torn. After it come batches of files, each with such an end, that were appended: a file
// replaces what was said before about the one with its device and inode. A batch without its
// end was being written when the power failed; it and all after it do not count.
const (
	positionsFormat = "ingot log positions"
	// positionsVersion is what is written. Version 1, which has no size and no done, and version
	// 2, to which nothing is appended, are read.
	positionsVersion = 3
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
	// Times are those that raw lines were given, of the lines from Offset up to TimesEnd.
	Times    []stamp `json:"times,omitempty"`
	TimesEnd int64   `json:"times_end,omitempty"`
}

func positionsEnd(files int, sum uint32) []byte {
	return fmt.Appendf(nil, "{\"files\":%d,\"crc32c\":\"%08x\"}\n", files, sum)
}

// encodePositions returns the whole file.
func encodePositions(recs []storedPosition) []byte {
	b := make([]byte, 0, 256*(len(recs)+1))
	b = fmt.Appendf(b, "{\"format\":%q,\"version\":%d}\n", positionsFormat, positionsVersion)
	b, _ = appendPositions(b, recs, 0)
	return b
}

// appendPositions appends files and their end to b, which continues what has the checksum sum,
// and returns the checksum of all.
func appendPositions(b []byte, recs []storedPosition, sum uint32) ([]byte, uint32) {
	for i := range recs {
		b = recs[i].appendTo(b)
	}
	sum = checksumOf(sum, b)
	ended := len(b)
	b = append(b, positionsEnd(len(recs), sum)...)
	return b, checksumOf(sum, b[ended:])
}

// appendTo appends r as encoding/json would write it.
func (r *storedPosition) appendTo(b []byte) []byte {
	b = append(b, `{"path":`...)
	b = appendString(b, r.Path)
	b = strconv.AppendUint(append(b, `,"dev":`...), r.Dev, 10)
	b = strconv.AppendUint(append(b, `,"ino":`...), r.Ino, 10)
	b = strconv.AppendInt(append(b, `,"offset":`...), r.Offset, 10)
	b = strconv.AppendInt(append(b, `,"head_size":`...), int64(r.HeadSize), 10)
	b = strconv.AppendUint(append(b, `,"head_sum":`...), r.HeadSum, 10)
	if r.Size != 0 {
		b = strconv.AppendInt(append(b, `,"size":`...), r.Size, 10)
	}
	if r.Done {
		b = append(b, `,"done":true`...)
	}
	for i, x := range r.Times {
		b = append(b, [...]string{`,"times":[{"offset":`, `,{"offset":`}[min(i, 1)]...)
		b = strconv.AppendInt(b, x.Off, 10)
		b = append(strconv.AppendInt(append(b, `,"time":`...), x.T, 10), '}')
	}
	if len(r.Times) > 0 {
		b = strconv.AppendInt(append(b, `],"times_end":`...), r.TimesEnd, 10)
	}
	return append(b, '}', '\n')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // A string cannot fail.
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// decodePositions returns the files. torn tells that the end of what was appended is not there
// or damaged, so that they are of some time before.
func decodePositions(data []byte) (recs []storedPosition, torn bool, err error) {
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	var h positionsHeader
	if err = json.Unmarshal(head, &h); err != nil || h.Format != positionsFormat {
		return nil, false, errors.New("decode positions: the file does not begin as one of positions does")
	}
	if h.Version < 1 || h.Version > positionsVersion {
		return nil, false, fmt.Errorf("decode positions: the file has version %d, this program knows versions up to %d", h.Version, positionsVersion)
	}
	sum := checksumOf(0, data[:len(data)-len(rest)])
	recs, sum, rest, err = decodeBatch(rest, sum)
	if err != nil {
		return nil, false, fmt.Errorf("decode positions: %w", err)
	}
	if len(rest) == 0 {
		return recs, false, nil
	}
	if h.Version < 3 {
		return nil, false, fmt.Errorf("decode positions: something follows the end of a file of version %d", h.Version)
	}
	at := make(map[fileID]int, len(recs))
	for i := range recs {
		at[fileID{recs[i].Dev, recs[i].Ino}] = i
	}
	for len(rest) > 0 {
		var batch []storedPosition
		var damage error
		if batch, sum, rest, damage = decodeBatch(rest, sum); damage != nil {
			torn = true
			break
		}
		for _, r := range batch {
			id := fileID{r.Dev, r.Ino}
			if i, ok := at[id]; ok {
				recs[i] = r
			} else {
				at[id] = len(recs)
				recs = append(recs, r)
			}
		}
	}
	return recs, torn, nil
}

// decodeBatch decodes files up to an end, which continue what has the checksum sum. rest is
// what follows, end its checksum.
func decodeBatch(data []byte, sum uint32) (recs []storedPosition, end uint32, rest []byte, err error) {
	for rest = data; ; {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, 0, nil, errors.New("the file is cut off")
		}
		if bytes.HasPrefix(line, []byte(`{"files":`)) {
			return recs, checksumOf(sum, data[:len(data)-len(after)]), after, checkEnd(line, len(recs), checksumOf(sum, data[:len(data)-len(rest)]))
		}
		rest = after
		var r storedPosition
		if err := strict(line, &r); err != nil {
			return nil, 0, nil, fmt.Errorf("file %d: %w", len(recs)+1, err)
		}
		if r.Offset < 0 || r.Size < 0 || r.HeadSize < 0 || r.HeadSize > fingerprintSize {
			return nil, 0, nil, fmt.Errorf("file %d: a number is out of range", len(recs)+1)
		}
		recs = append(recs, r)
	}
}

func checkEnd(line []byte, files int, sum uint32) error {
	if want := positionsEnd(files, sum); !bytes.Equal(line, want[:len(want)-1]) {
		return fmt.Errorf("the end should be %s, is %q", want[:len(want)-1], line)
	}
	return nil
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

// checksumOf continues a checksum.
func checksumOf(sum uint32, data []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), data)
}
