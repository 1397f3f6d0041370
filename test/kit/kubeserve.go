package kit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ServeHTTP answers one request. A test needs it only to put one server in the place of another.
func (k *Kube) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	intercept, token, down := k.intercept, k.token, k.srv == nil
	k.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler) // On a connection that is about to be cut.
	}
	if intercept != nil && intercept(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		kubeFail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized", "")
		return
	}
	kind, namespace, name := k.route(r.URL.Path)
	if kind == nil {
		kubeFail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", "")
		return
	}
	q := r.URL.Query()
	verb, reduced := "list", "PartialObjectMetadataList"
	switch {
	case name != "":
		verb, reduced = "get", "PartialObjectMetadata"
	case q.Get("watch") == "true" || q.Get("watch") == "1":
		verb, reduced = "watch", "PartialObjectMetadata"
	}
	as, ok := kubeAcceptsJSON(r.Header.Get("Accept"))
	if !ok || r.Method != http.MethodGet || as != "" && as != reduced {
		kubeFail(w, http.StatusNotAcceptable, "NotAcceptable", "this server answers GET with application/json; a "+verb+
			" can be reduced to "+reduced, "")
		return
	}
	partial := as != ""
	match, err := kubeSelector(q.Get("fieldSelector"), q.Get("labelSelector"), namespace)
	k.mu.Lock()
	k.requests = append(k.requests, KubeRequest{
		time.Now(), verb, kind.resource, q.Get("resourceVersion"), q.Get("continue"), q.Get("fieldSelector"),
		q.Get("sendInitialEvents") == "true", partial,
	})
	refusal, refused := k.refusals[kind.resource]
	if in, ok := k.refusals[namespace+"/"+kind.resource]; ok {
		refusal, refused = in, true
	}
	k.mu.Unlock()
	switch {
	case refused:
		kubeRefuse(w, refusal, verb, kind)
	case err != nil:
		kubeFail(w, http.StatusBadRequest, "BadRequest", err.Error(), "")
	case verb == "get":
		k.get(w, kind, namespace+"/"+name, partial)
	case verb == "watch":
		k.watch(w, r, kind, match, partial)
	default:
		k.list(w, r, kind, match, partial)
	}
}

// route finds the resource, namespace and name that a path is about.
func (k *Kube) route(path string) (kind *kubeKind, namespace, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		parts = parts[1:]
	case len(parts) >= 4 && parts[0] == "apis":
		parts = append([]string{parts[1] + "/" + parts[2]}, parts[3:]...)
	default:
		return nil, "", ""
	}
	version, rest := parts[0], parts[1:]
	if rest[0] == "namespaces" && len(rest) > 2 {
		namespace, rest = rest[1], rest[2:]
	}
	if len(rest) > 1 {
		name = rest[1]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kinds[version+"/"+rest[0]], namespace, name
}

func (k *Kube) get(w http.ResponseWriter, kind *kubeKind, key string, partial bool) {
	k.mu.Lock()
	obj := kind.objects[key]
	k.mu.Unlock()
	if obj == nil {
		kubeFail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", kind.resource, key), "")
		return
	}
	kubeAnswer(w, http.StatusOK, kubeShown(obj, partial))
}

func (k *Kube) list(w http.ResponseWriter, r *http.Request, kind *kubeKind, match func(map[string]any) bool, partial bool) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	if q.Get("resourceVersion") == "0" {
		limit = 0 // The cache of the real one does not page.
	}
	k.mu.Lock()
	version := k.version
	var items []map[string]any
	if token := q.Get("continue"); token != "" {
		rest, ok := k.pages[token]
		if !ok {
			k.mu.Unlock()
			kubeFail(w, http.StatusGone, "Expired", "The provided continue parameter is too old to display a consistent list result.", "")
			return
		}
		items = rest
	} else {
		if asked, _ := strconv.ParseInt(q.Get("resourceVersion"), 10, 64); asked > version {
			k.mu.Unlock()
			kubeTooLarge(w, asked, version)
			return
		}
		items = k.matching(kind, match)
	}
	token := ""
	if limit > 0 && len(items) > limit {
		token = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d", version, len(k.requests)))
		k.pages[token] = items[limit:]
		items = items[:limit]
	}
	k.mu.Unlock()
	list := map[string]any{"apiVersion": kind.apiVersion, "kind": kind.kind + "List"}
	if partial {
		list = map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"}
	}
	list["metadata"] = map[string]any{"resourceVersion": strconv.FormatInt(version, 10), "continue": token}
	all := make([]any, 0, len(items))
	for _, obj := range items {
		item := maps.Clone(kubeShown(obj, partial))
		delete(item, "apiVersion")
		delete(item, "kind")
		all = append(all, item)
	}
	list["items"] = all
	kubeAnswer(w, http.StatusOK, list)
}

// matching returns objects ordered by key. It is called with k.mu held.
func (k *Kube) matching(kind *kubeKind, match func(map[string]any) bool) []map[string]any {
	var items []map[string]any
	for _, key := range slices.Sorted(maps.Keys(kind.objects)) {
		if match(kind.objects[key]) {
			items = append(items, kind.objects[key])
		}
	}
	return items
}

func (k *Kube) watch(w http.ResponseWriter, r *http.Request, kind *kubeKind, match func(map[string]any) bool, partial bool) {
	q := r.URL.Query()
	streaming := q.Get("sendInitialEvents") == "true"
	switch {
	case streaming && k.NoStreaming:
		kubeFail(w, http.StatusUnprocessableEntity, "Invalid", "ListOptions is invalid: sendInitialEvents: Forbidden: "+
			"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled", "")
		return
	case streaming && (q.Get("resourceVersionMatch") != "NotOlderThan" || q.Get("allowWatchBookmarks") != "true"):
		kubeFail(w, http.StatusUnprocessableEntity, "Invalid", "ListOptions is invalid: sendInitialEvents needs "+
			"resourceVersionMatch=NotOlderThan and allowWatchBookmarks=true", "")
		return
	}
	from, err := strconv.ParseInt("0"+q.Get("resourceVersion"), 10, 64)
	if err != nil {
		kubeFail(w, http.StatusBadRequest, "BadRequest", "resourceVersion must be a number", "")
		return
	}
	kw := &kubeWatch{wake: make(chan struct{}, 1)}
	s := &kubeStream{k: k, w: w, kind: kind, match: match, partial: partial, from: from}
	k.mu.Lock()
	version := k.version
	expired := !streaming && from > 0 && from < k.forgotten
	if from > version && streaming {
		k.mu.Unlock()
		kubeTooLarge(w, from, version)
		return
	}
	var initial []map[string]any
	if streaming || from == 0 {
		initial, s.from = k.matching(kind, match), version
	}
	k.watches[kw] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.watches, kw)
		k.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	if expired {
		// As the real one: an event, not an HTTP status.
		s.send("ERROR", kubeStatus(http.StatusGone, "Expired", fmt.Sprintf("too old resource version: %d (%d)", from, version), ""))
		return
	}
	for _, obj := range initial {
		s.send("ADDED", kubeShown(obj, partial))
	}
	if streaming {
		s.bookmark(true)
	}
	s.run(r, kw, q.Get("allowWatchBookmarks") == "true", q.Get("timeoutSeconds"))
}

// kubeStream is the answer to one watch.
type kubeStream struct {
	k       *Kube
	w       http.ResponseWriter
	kind    *kubeKind
	match   func(map[string]any) bool
	partial bool
	from    int64 // everything up to here has been sent
}

func (s *kubeStream) run(r *http.Request, kw *kubeWatch, bookmarks bool, timeout string) {
	limit := time.Hour
	if n, err := strconv.Atoi(timeout); err == nil && n > 0 {
		limit = time.Duration(n) * time.Second
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(s.k.BookmarkEvery)
	defer tick.Stop()
	for {
		s.sendNew()
		mark := false
		select {
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-tick.C:
			mark = true
		case <-kw.wake:
		}
		kw.mu.Lock()
		ended, cut := kw.end, kw.cut
		mark = mark || kw.mark
		kw.mark = false
		kw.mu.Unlock()
		switch {
		case cut:
			panic(http.ErrAbortHandler)
		case ended:
			return
		case mark && bookmarks:
			s.sendNew()
			s.bookmark(false)
		}
	}
}

// sendNew sends what was written since the last time.
func (s *kubeStream) sendNew() {
	s.k.mu.Lock()
	var events []kubeEvent
	for _, ev := range s.k.history {
		if ev.version > s.from && ev.kind == s.kind {
			events = append(events, ev)
		}
	}
	s.from = max(s.from, s.k.version)
	s.k.mu.Unlock()
	for _, ev := range events {
		before := ev.old != nil && s.match(ev.old)
		after := ev.last != nil && s.match(ev.last)
		switch {
		case before && after:
			s.send("MODIFIED", kubeShown(ev.last, s.partial))
		case after:
			s.send("ADDED", kubeShown(ev.last, s.partial))
		case before && ev.gone != nil:
			s.send("DELETED", kubeShown(ev.gone, s.partial))
		case before:
			s.send("DELETED", kubeShown(ev.last, s.partial)) // It left the selection.
		}
	}
}

func (s *kubeStream) bookmark(initialEnd bool) {
	meta := map[string]any{"resourceVersion": strconv.FormatInt(s.from, 10), "creationTimestamp": nil}
	if initialEnd {
		meta["annotations"] = map[string]any{"k8s.io/initial-events-end": "true"}
	}
	s.send("BOOKMARK", kubeShown(map[string]any{"apiVersion": s.kind.apiVersion, "kind": s.kind.kind, "metadata": meta}, s.partial))
}

func (s *kubeStream) send(typ string, obj map[string]any) {
	_ = json.NewEncoder(s.w).Encode(map[string]any{"type": typ, "object": obj}) // A client that left shows in the context.
	s.w.(http.Flusher).Flush()
}

// kubeSelector returns the predicate of a field selector (equality of spec.nodeName,
// metadata.name, metadata.namespace), a label selector (equality) and a namespace.
func kubeSelector(fields, labels, namespace string) (func(map[string]any) bool, error) {
	type term struct{ path, value string }
	var terms []term
	for _, part := range strings.FieldsFunc(fields, func(r rune) bool { return r == ',' }) {
		path, value, ok := strings.Cut(part, "=")
		if !ok || !slices.Contains([]string{"spec.nodeName", "metadata.name", "metadata.namespace"}, path) {
			return nil, fmt.Errorf("%q is not a known field selector", part)
		}
		terms = append(terms, term{path, value})
	}
	wanted := map[string]string{}
	for _, part := range strings.FieldsFunc(labels, func(r rune) bool { return r == ',' }) {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not a label selector that this server knows", part)
		}
		wanted[name] = value
	}
	return func(obj map[string]any) bool {
		if namespace != "" && kubeText(kubeMetaOf(obj), "namespace") != namespace {
			return false
		}
		for _, t := range terms {
			block, field, _ := strings.Cut(t.path, ".")
			if in, _ := obj[block].(map[string]any); kubeText(in, field) != t.value {
				return false
			}
		}
		own, _ := kubeMetaOf(obj)["labels"].(map[string]any)
		for name, value := range wanted {
			if kubeText(own, name) != value {
				return false
			}
		}
		return true
	}, nil
}

// kubeAcceptsJSON finds the first media type of an Accept header that is JSON, and the kind
// that it wants objects to be reduced to, if any.
func kubeAcceptsJSON(accept string) (as string, ok bool) {
	if accept == "" {
		return "", true
	}
	for clause := range strings.SplitSeq(accept, ",") {
		parts := strings.Split(clause, ";")
		if typ := strings.TrimSpace(parts[0]); typ != "application/json" && typ != "*/*" {
			continue
		}
		for _, p := range parts[1:] {
			if kind, found := strings.CutPrefix(p, "as="); found {
				as = kind
			}
		}
		return as, true
	}
	return "", false
}

// kubeShown returns the object as the client wants to see it.
func kubeShown(obj map[string]any, partial bool) map[string]any {
	if !partial {
		return obj
	}
	return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}
}

func kubeRefuse(w http.ResponseWriter, r KubeRefusal, verb string, kind *kubeKind) {
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	switch r.Code {
	case http.StatusForbidden:
		group, _, grouped := strings.Cut(kind.apiVersion, "/")
		if !grouped {
			group = ""
		}
		kubeFail(w, r.Code, "Forbidden", fmt.Sprintf("%s is forbidden: User \"system:serviceaccount:ingot:ingot\" cannot %s resource %q "+
			"in API group %q at the cluster scope", kind.resource, verb, kind.resource, group), "")
	case http.StatusTooManyRequests:
		// As the real one, which has no object for this.
		http.Error(w, "Too many requests, please try again later.", r.Code)
	default:
		kubeFail(w, r.Code, "InternalError", "this server was told to fail", "")
	}
}

func kubeTooLarge(w http.ResponseWriter, asked, current int64) {
	w.Header().Set("Retry-After", "1")
	kubeFail(w, http.StatusGatewayTimeout, "Timeout", fmt.Sprintf("Too large resource version: %d, current: %d", asked, current), "ResourceVersionTooLarge")
}

func kubeFail(w http.ResponseWriter, code int, reason, message, cause string) {
	kubeAnswer(w, code, kubeStatus(code, reason, message, cause))
}

func kubeStatus(code int, reason, message, cause string) map[string]any {
	s := map[string]any{
		"apiVersion": "v1", "kind": "Status", "metadata": map[string]any{},
		"status": "Failure", "reason": reason, "message": message, "code": code,
	}
	if cause != "" {
		s["details"] = map[string]any{
			"causes":            []any{map[string]any{"reason": cause, "message": message}},
			"retryAfterSeconds": 1,
		}
	}
	return s
}

func kubeAnswer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // A client that left does not want the answer.
}
