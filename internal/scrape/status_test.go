package scrape

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
)

// What /config hides of a job must not be shown beside it.
func TestStatusHidesWhatTheConfigurationHides(t *testing.T) {
	const url = "http://user:canary@sd/targets?token=canary"
	synctest.Test(t, func(t *testing.T) {
		source := newList()
		source.setLabels(
			labels.FromStrings("__address__", "a:1", "__meta_url", url),
			labels.FromStrings("__address__", "b:1", "__meta_url", url),
			labels.FromStrings("__address__", url, "__meta_url", url, "__param_password", "canary"),
		)
		r := run(t, DefaultConfig(), jobOf(t, `{job_name: j, scrape_interval: 10s, params: {token: [canary], module: [m]},
			relabel_configs: [{source_labels: [__address__], regex: "b.*", action: drop}]}`, source, script("m 1\n")))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		st := r.Status().Jobs[0]
		if len(st.Targets) != 1 || len(st.DroppedTargets) != 1 || len(st.InvalidTargets) != 1 {
			t.Fatalf("status %+v, want one target of each kind", st)
		}
		if got, want := st.Targets[0].URL, "http://a:1/metrics?module=m&token=<secret>"; got != want {
			t.Errorf("URL %s, want %s", got, want)
		}
		const shownURL = "http://user:<secret>@sd/targets?token=<secret>"
		dropped := st.DroppedTargets[0]
		if diff := cmp.Diff([]string{shownURL, "<secret>", "m"}, []string{dropped["__meta_url"], dropped["__param_token"], dropped["__param_module"]}); diff != "" {
			t.Errorf("dropped target (-want +got):\n%s", diff)
		}
		invalid := st.InvalidTargets[0].Labels
		if diff := cmp.Diff([]string{shownURL, shownURL, "<secret>"}, []string{invalid["__address__"], invalid["__meta_url"], invalid["__param_password"]}); diff != "" {
			t.Errorf("invalid target (-want +got):\n%s", diff)
		}
		if text := st.InvalidTargets[0].Error; strings.Contains(text, "canary") {
			t.Errorf("the error has the secret: %s", text)
		}
	})
}
