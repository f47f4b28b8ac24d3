package gateway

// corsFor is the CORS of a route: its feature's own block or the file's.
func (t *table) corsFor(rt *Route) *cors {
	c := rt.Policy.CORS
	if c == nil {
		c = &t.settings.CORS
	}
	return newCORS(c, t.versions.header)
}

// answerStages are those that stand right behind the frame because they concern
// every answer of the route, also one that refuses the request.
func (g *Gateway) answerStages(rt *Route) ([]Stage, error) {
	var stages []Stage
	if rt.cors != nil {
		stages = append(stages, corsStage(rt.cors))
	}
	if rt.Version != "" {
		stages = append(stages, versionStage(rt.versions, rt))
	}
	rules, err := newHeaderRules(rt.Policy.Headers)
	if err != nil {
		return nil, err
	}
	if rules != nil {
		rt.headers = rules
		if !rules.response.empty() || rules.security {
			stages = append(stages, headersStage(rules))
		}
	}
	if rt.Policy.Compression != compressionOff {
		stages = append(stages, compressStage())
	}
	return stages, nil
}
