package promoperator

// different are the recorded cases in which Ingot means to do something else than the
// operator, with the reason.
func different() map[string]string {
	const (
		apiServer = "apiServer names another API server: Ingot's own token must not go there, nor an object's to ours"
		enforced  = "the operator forgets the enforced label where a ScrapeConfig has no relabelings; Ingot does not"
		broken    = "the generator was called with an object that the operator's selection rejects"
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
		"1c2111d4f764880a": "nameEscapingScheme for a Prometheus before 3.4, which has none",
	}
}
