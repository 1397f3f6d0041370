package podlogs

import (
	"strings"

	"github.com/ingot-telemetry/ingot/internal/stage"
)

const (
	// multilineAnnotation says of a pod how the lines of its containers are joined, and with
	// "." and a container's name of that container: a preset, none or a regular expression.
	multilineAnnotation = "ingot.dev/logs.multiline"
	// noMultiline joins nothing.
	noMultiline = "none"
	// maxMultiline bounds the expressions of annotations that are compiled at a time.
	maxMultiline = 256
)

// multilineOf returns how the lines of a container are joined, in the words of the annotation;
// empty for as in pod_logs.multiline.
func multilineOf(p pod) string {
	s, ok := p.annotations[multilineAnnotation+"."+p.container]
	if !ok {
		s = p.annotations[multilineAnnotation]
	}
	return strings.TrimSpace(s)
}

// joiner makes the runners that join lines to blocks, one for each setting.
type joiner struct {
	base    *stage.MultilineConfig // nil for none
	runners map[string]*runner     // nil for one that does nothing
}

// runner returns the runner of a setting, nil where nothing is joined. The problem is empty or
// says why it is that of pod_logs.multiline instead. chains are those that use runners.
func (j *joiner) runner(setting string, chains []*chain) (x *runner, problem string) {
	if known, ok := j.runners[setting]; ok {
		return known, ""
	}
	if len(j.runners) >= maxMultiline {
		used := map[string]bool{}
		for _, ch := range chains {
			used[ch.joins] = true
		}
		for s := range j.runners {
			if !used[s] {
				delete(j.runners, s)
			}
		}
	}
	cfg := j.config(setting)
	if cfg != nil && len(j.runners) >= maxMultiline {
		problem = "too many different expressions in annotations " + multilineAnnotation
	} else if cfg != nil {
		p, err := stage.Compile([]stage.Config{{Multiline: cfg}})
		if err == nil {
			x = &runner{Runner: p.NewRunner(stage.Deps{})}
		} else {
			problem = "annotation " + multilineAnnotation + ": " + err.Error()
		}
	}
	if problem != "" {
		x, _ = j.runner("", chains) // Compiles, since Validate has seen it.
		return x, problem
	}
	if j.runners == nil {
		j.runners = map[string]*runner{}
	}
	j.runners[setting] = x
	return x, ""
}

// config returns the options of a setting, nil for none.
func (j *joiner) config(setting string) *stage.MultilineConfig {
	switch setting {
	case "":
		return j.base
	case noMultiline:
		return nil
	}
	cfg := stage.DefaultMultilineConfig()
	if j.base != nil {
		cfg = *j.base
	}
	cfg.Firstline, cfg.Preset = "", ""
	if stage.IsPreset(setting) {
		cfg.Preset = setting
	} else {
		cfg.Firstline = setting
	}
	return &cfg
}
