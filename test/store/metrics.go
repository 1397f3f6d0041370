package store

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// pushMetrics stores a remote write request. As in Mimir, what is refused is answered with
// 400 while the rest is stored.
func (s *Store) pushMetrics(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if message, bad := kit.MessageOf(r.Header); bad != nil || message != kit.Message1 {
		http.Error(w, "only remote write 1.0 in snappy is taken here", http.StatusUnsupportedMediaType)
		return
	}
	req, err := kit.DecodeWrite(r.Header, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	db, err := s.tenant(tenantName(r), true)
	if err != nil {
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	}
	app := db.Appender(r.Context())
	var first error
	for _, ts := range req.Series {
		if err := appendSeries(app, ts); err != nil && first == nil {
			first = err
		}
	}
	if err := app.Commit(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if first != nil {
		http.Error(w, first.Error(), http.StatusBadRequest)
	}
}

// appendSeries adds the samples and histograms of one series and returns the first reason for refusing one.
func appendSeries(app storage.Appender, ts kit.WriteSeries) error {
	lset, err := kit.CheckSeries(ts.Labels, kit.DefaultSeriesLimits())
	if err != nil {
		return err
	}
	var first error
	var ref storage.SeriesRef
	for _, sample := range ts.Samples {
		ref, err = app.Append(ref, lset, sample.T, sample.V)
		if err != nil && first == nil {
			first = fmt.Errorf("sample at %d of series %s: %w", sample.T, lset, err)
		}
	}
	for _, h := range ts.Histograms {
		ref, err = app.AppendHistogram(ref, lset, h.T, h.Int, h.Float)
		if err != nil && first == nil {
			first = fmt.Errorf("histogram at %d of series %s: %w", h.T, lset, err)
		}
	}
	return first
}

// query answers an instant query.
func (s *Store) query(w http.ResponseWriter, r *http.Request) {
	at, err := timeParam(r, "time", time.Now())
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	s.evaluate(w, r, func(q storage.Queryable) (promql.Query, error) {
		return s.engine.NewInstantQuery(r.Context(), q, nil, r.FormValue("query"), at)
	})
}

// queryRange answers a range query.
func (s *Store) queryRange(w http.ResponseWriter, r *http.Request) {
	start, errStart := timeParam(r, "start", time.Time{})
	end, errEnd := timeParam(r, "end", time.Time{})
	step, errStep := durationParam(r, "step")
	err := errors.Join(errStart, errEnd, errStep)
	const most = 11_000 // points a series, as Prometheus allows
	switch {
	case err != nil:
	case end.Before(start):
		err = errors.New("end must not be before start")
	case end.Sub(start)/step > most:
		err = fmt.Errorf("more than %d points a series: take a larger step", most)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	s.evaluate(w, r, func(q storage.Queryable) (promql.Query, error) {
		return s.engine.NewRangeQuery(r.Context(), q, nil, r.FormValue("query"), start, end, step)
	})
}

// evaluate runs a query over the samples of the request's tenant and answers as Prometheus does.
func (s *Store) evaluate(w http.ResponseWriter, r *http.Request, build func(storage.Queryable) (promql.Query, error)) {
	var queryable storage.Queryable = storage.QueryableFunc(func(int64, int64) (storage.Querier, error) {
		return storage.NoopQuerier(), nil // a tenant that has never pushed
	})
	if db, err := s.tenant(tenantName(r), false); err == nil && db != nil {
		queryable = db
	}
	q, err := build(queryable)
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	defer q.Close()
	res := q.Exec(r.Context())
	if res.Err != nil {
		refuse(w, http.StatusUnprocessableEntity, "execution", res.Err)
		return
	}
	reply(w, string(res.Value.Type()), res.Value)
}

// timeParam reads a time as Prometheus' API takes it: Unix seconds or RFC 3339. A zero
// fallback means that the parameter must be there.
func timeParam(r *http.Request, name string, fallback time.Time) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		if fallback.IsZero() {
			return fallback, fmt.Errorf("parameter %s is missing", name)
		}
		return fallback, nil
	}
	if sec, err := strconv.ParseFloat(text, 64); err == nil && sec > -1e10 && sec < 1e10 {
		return time.UnixMilli(int64(sec * 1000)).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("parameter %s: %q is neither Unix seconds nor RFC 3339", name, text)
}

// durationParam reads a positive duration: seconds, or 30s, 5m.
func durationParam(r *http.Request, name string) (time.Duration, error) {
	text := r.FormValue(name)
	d := time.Duration(0)
	if sec, err := strconv.ParseFloat(text, 64); err == nil && sec < 1e9 {
		d = time.Duration(sec * float64(time.Second))
	} else if parsed, err := model.ParseDuration(text); err == nil {
		d = time.Duration(parsed)
	}
	if d <= 0 {
		return 0, fmt.Errorf("parameter %s: %q is not a positive duration", name, text)
	}
	return d, nil
}
