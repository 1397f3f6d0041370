package exporter

import (
	"fmt"
	"strconv"
)

// A podSet is what stands on a node or in a cluster. With churn a tenth of its pods is
// replaced a minute.
type podSet struct {
	pods  int
	churn bool
}

// podKey keeps the identities of pods apart from other numbers of a page.
const podKey = 1 << 31

// churnPeriod is the time in seconds in which each pod is replaced once.
const churnPeriod = 600

// generation says how often pod i has been replaced after that many seconds.
func (s podSet) generation(i int, seconds uint64) uint64 {
	if !s.churn {
		return 0
	}
	return (seconds + uint64(i)*churnPeriod/uint64(s.pods)) / churnPeriod
}

// A pod has names that are the same at each scrape.
type pod struct {
	key                   uint64
	namespace, name, uid  string
	workload, nodeAddress string
}

func (p *page) pod(i int, generation uint64) pod {
	n := p.number(uint64(i) + 1<<30)
	key := uint64(i) + generation<<24 + podKey
	workload := resource(int(n%10)) + "-" + []string{"api", "worker", "cron", "web"}[n>>8%4]
	return pod{
		key:         key,
		namespace:   "team-" + resource(int(n>>16%10)),
		name:        workload + "-" + p.id(key, 9) + "-" + p.id(key+1<<19, 5),
		uid:         p.uid(key),
		workload:    workload,
		nodeAddress: fmt.Sprintf("10.0.%d.%d", n>>24%4, n>>32%250),
	}
}

const (
	cadvisorPods   = 60
	cadvisorSeries = cadvisorPods * 2 * 29
	stampSpread    = 1000 // Timestamps are up to this many ms old.
)

// cadvisor writes 29 series of each of two containers of each pod, with timestamps.
func cadvisor(set podSet, seconds uint64) func(*page) {
	return func(p *page) {
		p.stamped = true
		type container struct {
			labels string // Without the closing brace.
			age    uint16
		}
		var all []container
		for i := range set.pods {
			at := p.pod(i, set.generation(i, seconds))
			for c, name := range []string{"main", "istio-proxy"} {
				id := p.id(at.key+uint64(c)<<16, 64)
				all = append(all, container{
					labels: fmt.Sprintf(`{container="%s",id="/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod%s.slice/cri-containerd-%s.scope",image="registry.example.com/platform/%s@sha256:%s",name="%s",namespace="%s",pod="%s"`,
						name, at.uid, id, at.workload, p.id(uint64(c), 64), id, at.namespace, at.name),
					age: uint16(p.number(at.key+uint64(c)) % stampSpread),
				})
			}
		}
		for _, f := range cadvisorFamilies() {
			p.family(f.name, f.kind, f.help)
			for _, c := range all {
				p.age = c.age
				p.sample(c.labels+f.labels+"}", f.value(p))
			}
		}
	}
}

// A podFamily is a metric that each pod or container has once.
type podFamily struct {
	name, kind, help, labels string // The labels stand behind those of the pod.
	value                    func(*page) float64
}

func cadvisorFamilies() []podFamily {
	var all []podFamily
	for _, name := range names("container_", "", "cpu_cfs_periods_total", "cpu_cfs_throttled_periods_total",
		"cpu_cfs_throttled_seconds_total", "cpu_system_seconds_total", "cpu_usage_seconds_total", "cpu_user_seconds_total",
		"oom_events_total", "memory_failcnt", "memory_failures_total", "pressure_cpu_stalled_seconds_total",
		"pressure_cpu_waiting_seconds_total", "pressure_io_stalled_seconds_total", "pressure_io_waiting_seconds_total",
		"pressure_memory_stalled_seconds_total") {
		all = append(all, podFamily{name, counterType, "Cumulative figure of the container's control group.", "", (*page).seconds})
	}
	for _, name := range names("container_", "", "memory_cache", "memory_mapped_file", "memory_max_usage_bytes", "memory_rss",
		"memory_swap", "memory_usage_bytes", "memory_working_set_bytes", "spec_memory_limit_bytes") {
		all = append(all, podFamily{name, gaugeType, "Current figure of the container's control group in bytes.", "", (*page).bytes})
	}
	for _, name := range names("container_", "", "file_descriptors", "last_seen", "processes", "sockets", "spec_cpu_period", "spec_cpu_shares", "threads") {
		all = append(all, podFamily{name, gaugeType, "Current figure of the container.", "", (*page).small})
	}
	return all
}

const (
	ksmPods   = 2000
	ksmSeries = ksmPods * 36
)

// ksm writes 36 series of each pod of a cluster, as kube-state-metrics does.
func ksm(set podSet, seconds uint64) func(*page) {
	return func(p *page) {
		all := make([]pod, set.pods)
		labels := make([]string, set.pods)
		for i := range all {
			all[i] = p.pod(i, set.generation(i, seconds))
			labels[i] = fmt.Sprintf(`{namespace="%s",pod="%s",uid="%s"`, all[i].namespace, all[i].name, all[i].uid)
		}
		p.family("kube_pod_info", gaugeType, "[STABLE] Information about pod.")
		for i, pod := range all {
			p.sample(fmt.Sprintf(`%s,host_ip="%s",pod_ip="10.244.%d.%d",node="worker-%s",created_by_kind="ReplicaSet",created_by_name="%s",priority_class="",host_network="false"}`,
				labels[i], pod.nodeAddress, i/250, i%250, pod.nodeAddress[5:], pod.workload), 1)
		}
		p.family("kube_pod_owner", gaugeType, "[STABLE] Information about the Pod's owner.")
		for i, pod := range all {
			p.sample(labels[i]+`,owner_kind="ReplicaSet",owner_name="`+pod.workload+`",owner_is_controller="true"}`, 1)
		}
		for _, f := range ksmFamilies() {
			if f.name != p.name {
				p.family(f.name, f.kind, f.help)
			}
			for i := range all {
				p.sample(labels[i]+f.labels+"}", f.value(p))
			}
		}
	}
}

// ksmFamilies are 34 series of a pod with two containers. Those of one metric stand together.
func ksmFamilies() []podFamily {
	var all []podFamily
	for _, name := range []string{"created", "start_time"} {
		all = append(all, podFamily{"kube_pod_" + name, gaugeType, "[STABLE] Unix timestamp of the pod.", "", (*page).counter})
	}
	for _, phase := range []string{"Pending", "Succeeded", "Failed", "Unknown", "Running"} {
		all = append(all, podFamily{"kube_pod_status_phase", gaugeType, "[STABLE] The pods current phase.", `,phase="` + phase + `"`, (*page).flag})
	}
	for _, name := range []string{"ready", "scheduled"} {
		for _, condition := range []string{"true", "false", "unknown"} {
			all = append(all, podFamily{"kube_pod_status_" + name, gaugeType, "[STABLE] Describes the state of the pod.", `,condition="` + condition + `"`, (*page).flag})
		}
	}
	containers := []string{"main", "istio-proxy"}
	for _, name := range names("kube_pod_container_", "", "info", "status_ready", "status_restarts_total", "status_running", "status_terminated", "status_waiting") {
		for c, container := range containers {
			labels := `,container="` + container + `"`
			if name == "kube_pod_container_info" {
				labels += `,image="registry.example.com/platform/service:v1.` + strconv.Itoa(c) + `.0",image_id="registry.example.com/platform/service@sha256:6dc4ba1f3e7a"`
			}
			all = append(all, podFamily{name, gaugeType, "[STABLE] Describes the container.", labels, (*page).flag})
		}
	}
	for _, name := range []string{"limits", "requests"} {
		for c, resource := range []string{`resource="cpu",unit="core"`, `resource="memory",unit="byte"`} {
			for i, container := range containers {
				if name == "limits" && c == 0 && i > 0 {
					continue // Sidecars have no limit of CPU.
				}
				all = append(all, podFamily{
					"kube_pod_container_resource_" + name, gaugeType, "The number of " + name + " of a resource by a container.",
					`,container="` + container + `",` + resource, (*page).bytes,
				})
			}
		}
	}
	return append(all,
		podFamily{"kube_pod_status_qos_class", gaugeType, "The pods current qosClass.", `,qos_class="Burstable"`, (*page).flag},
		podFamily{"kube_pod_restart_policy", gaugeType, "[STABLE] Describes the restart policy in use by this pod.", `,type="Always"`, (*page).flag})
}
