package sink

// request1 walks a WriteRequest of remote write 1.0.
func (m *Metrics) request1(body []byte, counts *MetricsCounts) error {
	for len(body) > 0 {
		f, rest, err := take(body)
		if err != nil {
			return err
		}
		if f.id == 1 {
			if err := m.timeSeries1(f.bytes, counts); err != nil {
				return err
			}
		}
		body = rest
	}
	return nil
}

// timeSeries1 walks a TimeSeries: its labels, then what belongs to them.
func (m *Metrics) timeSeries1(msg []byte, counts *MetricsCounts) error {
	var of origin
	all, named := msg, false
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			of.labels = all[:len(all)-len(rest)]
			if !named {
				named, err = of.label(f.bytes)
			}
		case 2:
			err = m.sample(of, f.bytes, counts)
		case 3:
			counts.Exemplars++
		case 4:
			err = m.histogram(of, f.bytes, counts)
		}
		if err != nil {
			return err
		}
		msg = rest
	}
	return nil
}

// label notes the name of the metric, if that is what the label is.
func (o *origin) label(label []byte) (isName bool, err error) {
	name, rest, err := take(label)
	if err != nil || string(name.bytes) != "__name__" || len(rest) == 0 {
		return false, err
	}
	value, _, err := take(rest)
	o.name(value.bytes)
	return true, err
}
