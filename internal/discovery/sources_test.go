package discovery

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// follow runs a source until the test ends and returns its lists, each sorted as text.
func follow(t *testing.T, s Source) <-chan []string {
	t.Helper()
	lists := make(chan []string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(groups []Group) {
			var all []string
			for _, l := range groups[0].Targets {
				all = append(all, l.String())
			}
			slices.Sort(all)
			lists <- all
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return lists
}

// want waits for a list that is as wanted; lists on the way there may differ, since a file
// is written in more than one step.
func want(t *testing.T, lists <-chan []string, want ...string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	var last []string
	for {
		select {
		case last = <-lists:
			if cmp.Equal(last, want) {
				return
			}
		case <-timeout:
			t.Fatalf("last list %v, want %v", last, want)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestStaticTargetsHaveTheLabelsOfTheirBlock(t *testing.T) {
	s := NewStatic([]StaticConfig{
		{Targets: []string{"a:1", "b:2"}, Labels: model.LabelSet{"env": "x", "__address__": "never"}},
		{Targets: []string{"c:3"}},
	})
	want(t, follow(t, s), `{__address__="a:1", env="x"}`, `{__address__="b:2", env="x"}`, `{__address__="c:3"}`)
	if s.Err() != nil {
		t.Errorf("Err = %v, want nil", s.Err())
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.json")
	write(t, a, "- targets: [a:1]\n  labels: {env: x}\n")
	s := NewFile(FileConfig{Files: []string{filepath.Join(dir, "*.yaml"), b}, RefreshInterval: config.Duration(time.Hour)}, quiet())
	lists := follow(t, s)
	ofA := `{__address__="a:1", __meta_filepath="` + a + `", env="x"}`
	ofB := `{__address__="b:1", __meta_filepath="` + b + `"}`
	want(t, lists, ofA)
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), b+": there is no such file") {
		t.Errorf("Err = %v, want the file that is not there", err)
	}
	write(t, b, `[{"targets": ["b:1"]}]`)
	want(t, lists, ofA, ofB)
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	want(t, lists, ofB)
	write(t, b, `[]`)
	want(t, lists)
	if s.Err() != nil {
		t.Errorf("Err = %v, want nil", s.Err())
	}
}

func TestFilesBehindALinkThatIsSwappedAreReadAgain(t *testing.T) {
	dir := t.TempDir() // As Kubernetes mounts a ConfigMap: targets.json -> ..data/targets.json, ..data -> ..1.
	link := func(from, to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "targets.json"), `[{"targets": ["v`+version+`:1"]}]`)
	}
	link("..data", "..1")
	link("targets.json", filepath.Join("..data", "targets.json"))
	path := filepath.Join(dir, "targets.json")
	lists := follow(t, NewFile(FileConfig{Files: []string{path}, RefreshInterval: config.Duration(time.Hour)}, quiet()))
	want(t, lists, `{__address__="v..1:1", __meta_filepath="`+path+`"}`)
	link("..data_tmp", "..2")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	want(t, lists, `{__address__="v..2:1", __meta_filepath="`+path+`"}`)
}

func TestBrokenFileKeepsItsLastTargets(t *testing.T) {
	for name, broken := range map[string]string{
		"a.yaml": "- targets: [a:1]\n  label: {}\n",
		"b.yaml": "- targets: {a: 1}\n",
		"c.yaml": "- null\n",
		"d.json": `[{"targets": ["a:1"], "label": {}}]`,
		"e.json": `[{"targets": ["a:1"]}] x`,
		"f.json": `[null]`,
		"g.json": ``,
		"h.yaml": "- targets: [a:1]\n  labels: {\"\": x}\n",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		good := "- targets: [good:1]\n"
		if strings.HasSuffix(name, ".json") {
			good = `[{"targets": ["good:1"]}]`
		}
		write(t, path, good)
		s := NewFile(FileConfig{Files: []string{path}}, quiet())
		first := s.read()
		write(t, path, broken)
		second := s.read()
		if len(first) != 1 || !cmp.Equal(first[0].String(), second[0].String()) {
			t.Errorf("%s: targets %v after a broken file, want %v", name, second, first)
		}
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "read targets of "+path) {
			t.Errorf("%s: Err = %v, want one that names the file", name, err)
		}
		write(t, path, good)
		if s.read(); s.Err() != nil {
			t.Errorf("%s: Err = %v after the file is good again, want nil", name, s.Err())
		}
	}
}

func TestFilesAreReadByIntervalToo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "later", "a.yaml") // No directory to watch yet.
	lists := follow(t, NewFile(FileConfig{Files: []string{path}, RefreshInterval: config.Duration(20 * time.Millisecond)}, quiet()))
	want(t, lists)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, "- targets: [a:1]\n")
	want(t, lists, `{__address__="a:1", __meta_filepath="`+path+`"}`)
}

// answers is a transport in place of a server.
type answers func(req *http.Request) (*http.Response, error)

func (a answers) RoundTrip(req *http.Request) (*http.Response, error) { return a(req) }

func TestURLIsFetchedByIntervalAndKeepsItsLastTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		var header http.Header
		client := &http.Client{Transport: answers(func(req *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, Request: req}
			switch n.Add(1) {
			case 1:
				header = req.Header
				resp.Body = io.NopCloser(strings.NewReader(`[{"targets": ["a:1", "b:1"], "labels": {"x": "y"}}]`))
			case 2:
				return nil, errors.New("no route")
			default:
				resp.Body = io.NopCloser(strings.NewReader(`[]`))
			}
			return resp, nil
		})}
		s := NewHTTP(HTTPConfig{URL: "http://user:secret@sd/targets?token=secret&page=2", RefreshInterval: config.Duration(time.Minute)}, quiet(), client, "Ingot/1.2.3")
		lists := follow(t, s)
		synctest.Wait()
		url := `__meta_url="http://user:secret@sd/targets?token=secret&page=2"`
		if diff := cmp.Diff([]string{`{__address__="a:1", ` + url + `, x="y"}`, `{__address__="b:1", ` + url + `, x="y"}`}, <-lists); diff != "" {
			t.Errorf("first list (-want +got):\n%s", diff)
		}
		wantHeader := http.Header{"Accept": {"application/json"}, "User-Agent": {"Ingot/1.2.3"}, "X-Prometheus-Refresh-Interval-Seconds": {"60"}, "Authorization": {"Basic dXNlcjpzZWNyZXQ="}}
		header.Del("Authorization") // net/http adds it to the request it sends, for the user in the URL.
		wantHeader.Del("Authorization")
		if diff := cmp.Diff(wantHeader, header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if err := s.Err(); err == nil || err.Error() != "fetch targets from http://user:<secret>@sd/targets?token=<secret>&page=2: no route" {
			t.Errorf("Err = %v, want one without the password and the token", err)
		}
		if len(lists) != 0 {
			t.Errorf("a failed fetch yielded %v, want nothing", <-lists)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := <-lists; len(got) != 0 || s.Err() != nil {
			t.Errorf("list %v and Err %v, want neither", got, s.Err())
		}
	})
}

func TestAnswersThatAreNoListOfTargetsAreErrors(t *testing.T) {
	interval := config.Duration(time.Minute)
	f := func(name string, h http.HandlerFunc, text string) {
		t.Helper()
		server := httptest.NewServer(h)
		defer server.Close()
		s := NewHTTP(HTTPConfig{URL: server.URL, RefreshInterval: interval}, quiet(), server.Client(), "")
		if _, err := s.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want ...%s...", name, err, text)
		}
	}
	send := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		}
	}
	f("status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "server returned HTTP status 503")
	f("html", send("text/html", "[]"), `content type is "text/html", must be application/json`)
	f("charset", send("application/json; charset=latin1", "[]"), "must be application/json")
	f("not json", send("application/json", "<"), "invalid character")
	f("null", send("application/json", "[null]"), "element 0 of the list is null")
	f("unknown key", send("application/json", `[{"target": []}]`), "unknown field")
	f("endless", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}, "list of targets exceeds 33554432 bytes")
	interval = config.Duration(200 * time.Millisecond)
	f("slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "context deadline exceeded")
}

func TestBlocksSayWhatIsWrongWithThem(t *testing.T) {
	f := func(v interface{ Validate() error }, want ...string) {
		t.Helper()
		var got []string
		var ps config.Problems
		ps.Merge("", v.Validate())
		for _, p := range ps {
			got = append(got, p.Error())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("problems of %+v (-want +got):\n%s", v, diff)
		}
	}
	f(StaticConfig{Targets: []string{"a:1"}})
	f(StaticConfig{Targets: []string{"a:1", "http://a/metrics"}}, `targets[1]: must be host:port without scheme and path, is "http://a/metrics"; use scheme and metrics_path`)
	minute := config.Duration(time.Minute)
	f(FileConfig{Files: []string{"a.json", "d/*.yml", "d/x*.YAML"}, RefreshInterval: minute})
	f(FileConfig{Files: []string{"a", "*/a.json", "[.json"}},
		`files[0]: must end in .json, .yml or .yaml and have a * only in its last segment, is "a"`,
		`files[1]: must end in .json, .yml or .yaml and have a * only in its last segment, is "*/a.json"`,
		`files[2]: is no valid pattern: "[.json"`,
		`refresh_interval: must be positive, is 0s`)
	f(FileConfig{RefreshInterval: minute}, "files: must list at least one path")
	f(&HTTPConfig{URL: "https://a/b", RefreshInterval: minute})
	f(&HTTPConfig{RefreshInterval: minute}, "url: must be set")
	f(&HTTPConfig{URL: "ftp://a", RefreshInterval: minute}, "url: must begin with http:// or https://")
	f(&HTTPConfig{URL: "http:///a", RefreshInterval: minute}, "url: has no host")
	f(&HTTPConfig{URL: "http://\x7f", RefreshInterval: minute}, "url: is no URL")
}
