package promoperator

// different are the recorded cases in which Ingot means to do something else than the
// operator, with the reason.
func different() map[string]string {
	const (
		apiServer = "apiServer names another API server: Ingot's own token must not go there, nor an object's to ours"
		enforced  = "the operator forgets the enforced label where a ScrapeConfig has no relabelings; Ingot does not"
		broken    = "the generator was called with an object that the operator's selection rejects"
		newer     = "a field that is newer than the Prometheus of the case, which Ingot always honours"
		ceiling   = "limits that the object Prometheus enforces; Ingot's ceilings are its block scrape"
	)
	return map[string]string{
		"0e939bd412728c3c": apiServer,
		"192ffd49654b4e1f": apiServer,
		"21baa21ccee7899e": apiServer,
		"598dfc552de9ed93": apiServer,
		"2a9b6ba7bf2cd5da": enforced,
		"3edb2da73bb3b936": enforced,
		"42d019edac057a87": enforced,
		"041a2a95454f62b1": broken, // a Probe without prober and targets
		"59594ce0f0cb5977": broken, // the Secret of the CA has no such key
		"31e2fa7000bea05b": "names files of the scraping pod, which Ingot never allows objects to do",
		"1c2111d4f764880a": newer,
		"03857d0c28f27fc2": newer,
		"0657c3323b429570": ceiling,
		"0b12efe4d4d141f2": ceiling,
		"0b794fdcfafd9d7b": newer,
		"1de4bd6bfa1ec6ca": newer,
		"201a89b21a72f89f": newer,
		"2428ad50361c0104": newer,
		"251565991a27436b": newer,
		"26ccedff71a376ea": newer,
		"2b514aabc8e08624": newer,
		"2ba88d7da363c446": ceiling,
		"48f3c61352de7eab": newer,
		"4c9bd0b2f30b59e2": newer,
		"4e361bd0014c0480": newer,
	}
}
