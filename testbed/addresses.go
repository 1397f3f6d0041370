package testbed

// All addresses come from 198.18.0.0/15, the range set aside for tests of
// network devices (RFC 2544). It is in use on no other network, so the testbed
// cannot hide one that the machine needs.
const (
	bridgeName = "ingot-testbed0"
	bridgeMAC  = "02:00:c6:12:00:01" // locally administered

	podCIDR     = "198.18.0.0/24"
	nodeIP      = "198.18.0.1" // the bridge's address, and so the pods' gateway
	firstPodIP  = "198.18.0.10"
	lastPodIP   = "198.18.0.250"
	serviceCIDR = "198.19.0.0/24"
	// apiServerIP is the first address of serviceCIDR, which the kubernetes
	// service always gets. The bridge carries it too and kube-apiserver listens
	// on it, so that in-cluster configuration works without kube-proxy.
	apiServerIP = "198.19.0.1"

	cortexAddr = nodeIP + ":19009"
	lokiAddr   = nodeIP + ":13100"

	// KubeletPort is where kubelet serves on the node's address.
	KubeletPort = 10250
)
