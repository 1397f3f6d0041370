package exporter

import (
	"fmt"
	"strconv"
)

// many starts a family and writes one sample for each label set.
func (p *page) many(name, kind, help string, sets []string, value func() float64) {
	p.family(name, kind, help)
	for _, set := range sets {
		p.sample(set, value())
	}
}

// names returns each of the words behind a prefix and before a suffix.
func names(prefix, suffix string, words ...string) []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = prefix + w + suffix
	}
	return all
}

// numbered returns label sets that count from 0: {label="prefix0"} and so on.
func numbered(n int, label, prefix string) []string {
	sets := make([]string, n)
	for i := range sets {
		sets[i] = "{" + label + `="` + prefix + strconv.Itoa(i) + `"}`
	}
	return sets
}

// The series of a host: 1072, as node_exporter shows them for 16 CPUs, 8 disks, 12 network
// interfaces and 12 file systems.
const nodeSeries = 1072

func node(p *page) {
	const cpus = 16
	p.family("node_cpu_seconds_total", counterType, "Seconds the CPUs spent in each mode.")
	for cpu := range cpus {
		for _, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
			p.sample(fmt.Sprintf(`{cpu="%d",mode="%s"}`, cpu, mode), p.seconds())
		}
	}
	p.family("node_cpu_guest_seconds_total", counterType, "Seconds the CPUs spent in guests (VMs) for each mode.")
	for cpu := range cpus {
		p.sample(fmt.Sprintf(`{cpu="%d",mode="nice"}`, cpu), 0)
		p.sample(fmt.Sprintf(`{cpu="%d",mode="user"}`, cpu), 0)
	}
	cpuSets := numbered(cpus, "cpu", "")
	for _, name := range names("node_cpu_scaling_frequency_", "hertz", "", "max_", "min_") {
		p.many(name, gaugeType, "Current scaled CPU thread frequency in hertz.", cpuSets, p.bytes)
	}
	for _, name := range names("node_softnet_", "", "backlog_len", "cpu_collision_total", "dropped_total", "processed_total", "received_rps_total", "times_squeezed_total") {
		p.many(name, counterType, "Number of packets as the softnet statistics of /proc/net/softnet_stat have it.", cpuSets, p.counter)
	}
	nodeDevices(p)
	nodeSensors(p)
	nodeHost(p)
}

func nodeDevices(p *page) {
	disks := numbered(8, "device", "nvme")
	for _, name := range names("node_disk_", "_total", "discard_time_seconds", "discarded_sectors", "discards_completed",
		"discards_merged", "flush_requests", "flush_requests_time_seconds", "io_time_seconds", "io_time_weighted_seconds",
		"read_bytes", "read_time_seconds", "reads_completed", "reads_merged", "write_time_seconds", "writes_completed",
		"writes_merged", "written_bytes", "ata_errors", "ata_resets", "queue_waits", "queue_depth") {
		p.many(name, counterType, "The total number of this event that the block device has counted since the start of the machine.", disks, p.counter)
	}
	nets := numbered(12, "device", "eth")
	for _, name := range names("node_network_", "_total", "receive_bytes", "receive_compressed", "receive_drop", "receive_errs",
		"receive_fifo", "receive_frame", "receive_multicast", "receive_nohandler", "receive_packets", "transmit_bytes",
		"transmit_carrier", "transmit_colls", "transmit_compressed", "transmit_drop", "transmit_errs", "transmit_fifo",
		"transmit_packets", "carrier_changes", "carrier_up_changes", "carrier_down_changes") {
		p.many(name, counterType, "Network device statistic of the same name, as the kernel counts it.", nets, p.counter)
	}
	for _, name := range names("node_network_", "", "mtu_bytes", "speed_bytes", "transmit_queue_length", "up") {
		p.many(name, gaugeType, "Network device property of /sys/class/net.", nets, p.small)
	}
	mounts := make([]string, 12)
	for i := range mounts {
		mounts[i] = fmt.Sprintf(`{device="/dev/mapper/vg0-lv%d",device_error="",fstype="ext4",mountpoint="/var/lib/volumes/disk-%d"}`, i, i)
	}
	for _, name := range names("node_filesystem_", "", "avail_bytes", "device_error", "files", "files_free", "free_bytes", "readonly", "size_bytes") {
		p.many(name, gaugeType, "Filesystem figure of the same name for non-root users.", mounts, p.bytes)
	}
}

func nodeSensors(p *page) {
	sensors := make([]string, 12)
	for i := range sensors {
		sensors[i] = fmt.Sprintf(`{chip="platform_coretemp_0",sensor="temp%d"}`, i+1)
	}
	for _, name := range names("node_hwmon_temp_", "", "celsius", "crit_alarm_celsius", "crit_celsius", "max_celsius") {
		p.many(name, gaugeType, "Hardware monitor for temperature.", sensors, p.small)
	}
}

// nodeHost writes the series that a host has once.
func nodeHost(p *page) {
	once := []string{""}
	for i, name := range names("node_memory_", "_bytes", "Active", "Active_anon", "Active_file", "AnonHugePages", "AnonPages",
		"Bounce", "Buffers", "Cached", "CommitLimit", "Committed_AS", "DirectMap1G", "DirectMap2M", "DirectMap4k", "Dirty",
		"FileHugePages", "HardwareCorrupted", "HugePages_Free", "HugePages_Total", "Hugepagesize", "Inactive", "Inactive_anon",
		"KReclaimable", "KernelStack", "Mapped", "MemAvailable", "MemFree", "MemTotal", "Mlocked", "PageTables", "Percpu",
		"SReclaimable", "SUnreclaim", "Shmem", "Slab", "SwapCached", "SwapFree", "SwapTotal", "Unevictable", "VmallocUsed",
		"Writeback", "WritebackTmp", "Zswap") {
		p.many(name, gaugeType, "Memory information field "+strconv.Itoa(i)+" of /proc/meminfo.", once, p.bytes)
	}
	for _, name := range names("node_netstat_", "", "Icmp6_InErrors", "Icmp6_InMsgs", "Icmp_InErrors", "Icmp_InMsgs",
		"Ip6_InOctets", "Ip6_OutOctets", "IpExt_InOctets", "IpExt_OutOctets", "Ip_Forwarding", "TcpExt_ListenDrops",
		"TcpExt_ListenOverflows", "TcpExt_SyncookiesFailed", "TcpExt_TCPOFOQueue", "TcpExt_TCPTimeouts", "Tcp_ActiveOpens",
		"Tcp_CurrEstab", "Tcp_InErrs", "Tcp_InSegs", "Tcp_OutRsts", "Tcp_OutSegs", "Tcp_PassiveOpens", "Tcp_RetransSegs",
		"Udp_InDatagrams", "Udp_NoPorts", "Udp_OutDatagrams") {
		p.many(name, "untyped", "Statistic of /proc/net/netstat with this name.", once, p.counter)
	}
	for i := 0; p.exposed < nodeSeries; i++ {
		p.many("node_vmstat_event_"+strconv.Itoa(i), "untyped", "/proc/vmstat information field number "+strconv.Itoa(i)+".", once, p.counter)
	}
}
